// The guide's mistakes, made on purpose with real tools, and what explain_api_key says of each.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { call, createDatabase, digest, explain, newSecret, owners, shell, startApi, startService, storeDigest } from '../deploy.js';

const database = 'internal_mistakes';
let api, secret, hash;
before(async () => {
    await createDatabase(database);
    api = await startApi(database, { keys: 'users' });
    secret = await newSecret();
    hash = await digest(secret);
});
after(() => api.stop());

// A service deployed with this secret is refused, and that is why.
async function refused(presented, why) {
    const service = await startService(api, presented);
    try {
        assert.equal((await call(service.url)).status, 401);
    } finally {
        await service.stop();
    }
    const sentence = await explain(database, 'users', presented);
    console.log(`  ${sentence}`);
    assert.match(sentence, why);
    // The operator compares it with the log.
    assert.ok(sentence.includes(JSON.parse(api.log.at(-1)).hashPrefix));
    for (const word of [presented, secret, hash]) assert.ok(!sentence.includes(word));
}

test('mistake 1: the key is stored in place of its hash', async () => {
    await storeDigest(database, owners.mail, secret);
    await refused(secret, /key was stored in place of its hash/);
});
test('mistake 2: the hash is deployed in place of the key', async () => {
    await storeDigest(database, owners.mail, hash);
    await refused(hash, /hash was presented in place of the key/);
});
test('echo without -n puts a newline into the hash', async () => {
    const hashed = (await shell('echo "$1" | shasum -a 256', secret)).split(' ')[0];
    await storeDigest(database, owners.mail, hashed);
    await refused(secret, /newline/);
});
test('an upper-case digest', async () => {
    await storeDigest(database, owners.mail, (await shell(`printf '%s' "$1" | openssl dgst -sha256 -r | tr a-f A-F`, secret)).split(' ')[0]);
    await refused(secret, /upper.case/i);
});
test('without a mistake it works', async () => {
    await storeDigest(database, owners.mail, hash);
    const service = await startService(api, secret);
    assert.equal((await call(service.url)).status, 200);
    await service.stop();
    assert.match(await explain(database, 'users', secret), /^Match/);
});
