// node changeover.js [right|wrong]: from plaintext to bcrypt while payments come in, by rolling
// deployments of two services. "wrong" protects the table before the application knows of hashes.
import { pathToFileURL } from 'node:url';
import bcrypt from 'bcryptjs';
import { addAdmin, createClient, createDatabase, migrateTo, pay, start } from './deploy.js';
import { Load, psql, seconds } from '../support.js';

export async function changeOver({ order = 'right', port = process.env.PGPORT, database, clients = 20 }) {
    const services = (release) => Promise.all([0, 1].map(() => start(database, release, { port })));
    const say = (what, load) => console.log(`  ${what.padEnd(66)}${load ? `${load.failed} of ${load.sent} failed` : ''}`);

    console.log(`change-over in the ${order} order, ${port === process.env.PGPORT ? 'direct' : 'through pgbouncer'}`);
    await createDatabase(database);
    await migrateTo(database, '0000');
    await addAdmin(database);

    const first = await services('plaintext');
    const valid = [];
    for (let n = 0; n < clients; n++) valid.push(await createClient(first[0].url, `client ${n}`));
    const random = () => valid[Math.floor(Math.random() * valid.length)].apiKey;
    let admitted = 0;
    let turn = 0;
    const load = new Load(first, async (url) => {
        if (turn++ % 20 === 0 && (await pay(url, `pk_${turn}`)) !== 401) admitted++; // a wrong key, now and then
        const status = await pay(url, random());
        return status === 200 ? undefined : status;
    });
    // Clients that come while all this happens count too.
    const newClient = async (service, name) => valid.push(await createClient(service.url, name));
    const steps = {
        columns: async () => {
            await migrateTo(database, '0002', { port });
            say('drizzle-kit adds extension, columns and indexes', load);
        },
        window: async () => {
            const fresh = await services('window');
            await load.replace(fresh);
            await newClient(fresh[0], 'came with the window');
            await seconds(0.5);
            say('release "window" is deployed: plaintext or hash', load);
            return fresh;
        },
        protect: async () => {
            await migrateTo(database, '0003', { port });
            await seconds(0.5);
            say('drizzle-kit protects the table: what is written is hashed', load);
        },
        migrate: async () => {
            await psql(database, `CALL migrate_api_keys('clients')`);
            await seconds(0.5);
            say(`CALL migrate_api_keys('clients'): what was there is hashed`, load);
        },
        close: async () => {
            const fresh = await services('hashed');
            await load.replace(fresh);
            await migrateTo(database, '0004', { port });
            await newClient(fresh[0], 'came with hashes');
            await seconds(0.5);
            say('release "hashed" is deployed, the old index dropped', load);
        },
    };

    try {
        await seconds(0.5);
        say('release "plaintext" serves, two services, four callers', load);
        if (order === 'right') {
            await steps.columns();
            const fresh = await steps.window();
            // One whose hash the application made itself, by bcryptjs, as the first plan had it.
            const made = { apiKey: 'pk_hashed_by_bcryptjs_0123456789' };
            await psql(database, `INSERT INTO clients (name, api_key_hash) VALUES ('bcryptjs', :'hash')`, {
                hash: await bcrypt.hash(made.apiKey, 10),
            });
            valid.push(made);
            await steps.protect();
            await newClient(fresh[1], 'came with protection');
            await steps.migrate();
            await steps.close();
        } else {
            await steps.columns();
            await steps.protect();
            await steps.migrate();
            await steps.window();
        }
    } finally {
        await load.end();
    }
    const left = Number(await psql(database, 'SELECT count(api_key) FROM clients'));
    say(`keys left in plaintext: ${left}, wrong keys let in: ${admitted}`);
    return { sent: load.sent, failed: load.failed, failures: Object.fromEntries(load.failures), admitted, left };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
    for (const order of process.argv[2] ? [process.argv[2]] : ['right', 'wrong']) {
        console.log(await changeOver({ order, database: `changeover_${order}` }));
    }
}
