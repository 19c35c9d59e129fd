// Real requests by way of two services, straight to PostgreSQL and through pgbouncer.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { addKey, call, createDatabase, digest, endOtherKeys, newSecret, owners, startApi, startService, storeDigest, storeSecret } from '../deploy.js';
import { psql, ways } from '../../support.js';

for (const [way, port] of Object.entries(ways)) {
    for (const keys of ['users', 'service_keys']) {
        describe(`keys in ${keys}, ${way}`, () => {
            const database = `internal_${keys}_${way}`;
            const secrets = {};
            let api, mail, analysis;
            before(async () => {
                await createDatabase(database);
                for (const [name, email] of Object.entries(owners)) {
                    secrets[name] = await newSecret();
                    if (keys === 'service_keys') await addKey(database, email, secrets[name]);
                    else await storeDigest(database, email, await digest(secrets[name]));
                }
                api = await startApi(database, { keys, port });
                mail = await startService(api, secrets.mail, 'POST /mails');
                analysis = await startService(api, secrets.analysis, 'GET /contacts');
            });
            after(() => Promise.all([mail.stop(), analysis.stop(), api.stop()]));

            test('each service gets what it asks for', async () => {
                for (let n = 0; n < 10; n++) {
                    assert.equal((await call(mail.url)).status, 200);
                    assert.equal((await call(analysis.url)).status, 200);
                }
            });
            test('and sees its tenant only', async () => {
                const names = async (key) => (await call(api.url, key)).body.map(({ name }) => name);
                assert.deepEqual(await names(secrets.mail), ['a contact of north', 'another contact of north']);
                assert.deepEqual(await names(secrets.analysis), ['a contact of south']);
            });
            test('with its permissions only', async () => {
                const { status, body } = await call(api.url, secrets.analysis, 'POST /mails');
                assert.deepEqual([status, body.error], [403, 'mail.write is not permitted']);
            });
            test('a missing, wrong or malformed key is refused', async () => {
                const hash = await digest(secrets.mail);
                for (const key of [undefined, '', await newSecret(), secrets.mail.toUpperCase(), hash, 'two words', "' OR true --"]) {
                    assert.equal((await call(api.url, key)).status, 401);
                }
            });
            test('the log has the prefix of the digest, as the database has it', async () => {
                await call(mail.url);
                const line = JSON.parse(api.log.at(-1));
                assert.equal(line.msg, 'Internal API call authenticated');
                const stored = await psql(database, `SELECT left(api_key_hash, 12) FROM ${keys} WHERE ${keys === 'users' ? 'id' : 'user_id'} = 1`);
                assert.equal(line.hashPrefix, stored);
            });
            test('and never a key or a whole digest', async () => {
                const everything = [...api.log, ...mail.log, ...analysis.log].join('\n');
                for (const secret of Object.values(secrets)) {
                    assert.ok(!everything.includes(secret));
                    assert.ok(!everything.includes(await digest(secret)));
                }
            });
        });
    }
}

describe('the table hashes as the guide does', () => {
    const database = 'internal_hashes';
    before(() => createDatabase(database));

    test('openssl and shasum, or one UPDATE: the same digest', async () => {
        const secret = await newSecret();
        assert.match(secret, /^[0-9a-f]{64}$/);
        await storeSecret(database, owners.mail, secret);
        const stored = await psql(database, 'SELECT api_key, api_key_hash FROM users WHERE id = 1');
        assert.equal(stored, `|${await digest(secret)}`);
    });
    test('the API may not read the key column', async () => {
        await assert.rejects(psql(database, 'SET ROLE internal_api; SELECT api_key FROM users'), /permission denied/);
    });
    test('a key that has ended is refused, its successor is not', async () => {
        const [old, fresh] = [await newSecret(), await newSecret()];
        await addKey(database, owners.mail, old);
        await addKey(database, owners.mail, fresh);
        const api = await startApi(database);
        try {
            assert.deepEqual([(await call(api.url, old)).status, (await call(api.url, fresh)).status], [200, 200]);
            await endOtherKeys(database, owners.mail, fresh);
            assert.deepEqual([(await call(api.url, old)).status, (await call(api.url, fresh)).status], [401, 200]);
        } finally {
            await api.stop();
        }
    });
});
