// node latency.js: what a request costs with either algorithm, in milliseconds (median and 95%).
import { pathToFileURL } from 'node:url';
import { addAdmin, createDatabase, migrateTo, start } from './deploy.js';
import { percentile, psql } from '../support.js';

const count = 25;

export async function latency(algorithm, database) {
    await createDatabase(database);
    await migrateTo(database, '9999', { algorithm });
    await addAdmin(database);
    await psql(database, `INSERT INTO clients (name, api_key) SELECT n, 'pk_latency_' || n FROM generate_series(1, ${count}) AS n`);
    const { url, stop } = await start(database, 'hashed', { pool: 1 }); // one backend, so one memory of keys
    const times = async (prefix, status) => {
        const samples = [];
        for (let n = 1; n <= count; n++) {
            const began = performance.now();
            const response = await fetch(`${url}/payments`, { headers: { 'X-API-Key': prefix + n } });
            await response.arrayBuffer();
            samples.push(performance.now() - began);
            if (response.status !== status) throw new Error(`${response.status} instead of ${status}`);
        }
        return { median: percentile(samples, 0.5), most: percentile(samples, 0.95) };
    };
    try {
        await times('warming_up_', 401);
        return {
            first: await times('pk_latency_', 200),
            again: await times('pk_latency_', 200),
            wrong: await times('pk_unknown_', 401),
        };
    } finally {
        await stop();
    }
}

export async function compare() {
    const results = {};
    console.log('milliseconds a request, median (95%)  a key\'s first use   later uses       wrong key');
    for (const [label, algorithm] of [['bcrypt, cost 10', 'bcrypt'], ['SHA-256', 'sha256']]) {
        const result = await latency(algorithm, `latency_${algorithm}`);
        const cells = Object.values(result).map(({ median, most }) => `${median.toFixed(1)} (${most.toFixed(1)})`);
        console.log(`${label.padEnd(38)}${cells.map((cell) => cell.padEnd(17)).join('')}`);
        results[algorithm] = result;
    }
    return results;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await compare();
