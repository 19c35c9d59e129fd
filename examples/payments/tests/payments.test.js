// Real requests, with both algorithms, straight to PostgreSQL and through pgbouncer.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import bcrypt from 'bcryptjs';
import { addAdmin, asAdmin, createClient, createDatabase, migrateTo, pay, start } from '../deploy.js';
import { psql, ways } from '../../support.js';

for (const algorithm of ['bcrypt', 'sha256']) {
    const database = `payments_${algorithm}`;
    before(async () => {
        await createDatabase(database);
        await migrateTo(database, '9999', { algorithm });
        await addAdmin(database);
    });

    for (const [way, port] of Object.entries(ways)) {
        describe(`payments with ${algorithm}, ${way}`, () => {
            let service, url, client;
            before(async () => {
                service = await start(database, 'hashed', { port });
                url = service.url;
                client = await createClient(url, 'shop');
            });
            after(() => service.stop());

            test('an administrator sees the key of a new client once', async () => {
                assert.match(client.apiKey, /^pk_[0-9a-f]{64}$/);
                const stored = await psql(database, `SELECT api_key IS NULL, api_key_hash FROM clients WHERE id = ${client.id}`);
                assert.match(stored, algorithm === 'bcrypt' ? /^t\|\$2a\$10\$.{53}$/ : /^t\|[0-9a-f]{64}$/);
                const files = await promisify(execFile)('sh', ['-c', `grep -r -a -l -F -e "$1" "$2" || true`, '-', client.apiKey, await psql(database, 'CHECKPOINT; SHOW data_directory')]);
                assert.equal(files.stdout, '');
            });
            test('but nobody else can make one', async () => {
                const response = await fetch(`${url}/admin/clients`, { method: 'POST' });
                assert.equal(response.status, 401);
            });
            test('the key pays', async () => assert.equal(await pay(url, client.apiKey), 200));
            test('again and again, as prepared statements', async () => {
                const all = await Promise.all(Array.from({ length: 30 }, () => pay(url, client.apiKey)));
                assert.deepEqual([...new Set(all)], [200]);
            });
            test('a missing key does not', async () => assert.equal(await pay(url), 401));
            test('a wrong one does not', async () => {
                const last = client.apiKey.at(-1) === '0' ? '1' : '0';
                assert.equal(await pay(url, client.apiKey.slice(0, -1) + last), 401);
            });
            test('nor anything that is not a key', async () => {
                const hash = await psql(database, `SELECT api_key_hash FROM clients WHERE id = ${client.id}`);
                for (const key of [hash, 'two words', `"${client.apiKey}"`, 'é', 'x'.repeat(2000), "' OR true --"]) {
                    assert.equal(await pay(url, key), 401, key.slice(0, 20));
                }
            });
            test('a client sees its own payments only', async () => {
                const other = await createClient(url, 'other shop');
                await pay(url, other.apiKey);
                const response = await fetch(`${url}/payments`, { headers: { 'X-API-Key': other.apiKey } });
                assert.deepEqual(await response.json(), { client: 'other shop', payments: 1, total: 1250 });
            });
            test('a new key ends the old one', async () => {
                const { id, apiKey } = await createClient(url, 'rotates');
                const { apiKey: fresh } = await (await asAdmin(url, 'POST', `clients/${id}/key`)).json();
                assert.deepEqual([await pay(url, apiKey), await pay(url, fresh)], [401, 200]);
            });
            test('a cleared key is refused', async () => {
                const { id, apiKey } = await createClient(url, 'leaves');
                assert.equal(await pay(url, apiKey), 200);
                assert.equal((await asAdmin(url, 'DELETE', `clients/${id}/key`)).status, 204);
                assert.equal(await pay(url, apiKey), 401);
            });
            test('a hash that bcryptjs made is accepted', async () => {
                const key = `pk_of_before_${way}`;
                const hash = await bcrypt.hash(key, 10);
                if (algorithm === 'bcrypt') {
                    await psql(database, `INSERT INTO clients (name, api_key_hash) VALUES ('before', :'hash')`, { hash });
                    assert.equal(await pay(url, key), 200);
                    // Written once more, it gets its tag, and is found by the index.
                    await psql(database, `UPDATE clients SET api_key = :'key' WHERE api_key_hash = :'hash'`, { key, hash });
                    assert.equal(await psql(database, `SELECT count(*) FROM clients WHERE api_key_hash IS NOT NULL AND api_key_tag IS NULL`), '0');
                    assert.equal(await pay(url, key), 200);
                } else {
                    assert.equal(await psql(database, `SELECT verify_api_key(:'key', :'hash')`, { key, hash }), 't');
                }
            });
            test('an error names no key, to client and log', async () => {
                await psql(database, 'REVOKE SELECT ON clients FROM payments_app');
                try {
                    const response = await fetch(`${url}/payments`, { headers: { 'X-API-Key': client.apiKey } });
                    assert.equal(response.status, 500);
                    assert.deepEqual(await response.json(), { error: 'internal error' });
                    assert.match(service.log.at(-1), /"code":"42501"/);
                } finally {
                    await psql(database, 'GRANT SELECT ON clients TO payments_app');
                }
                assert.ok(!service.log.some((line) => line.includes(client.apiKey)));
            });
        });
    }
}
