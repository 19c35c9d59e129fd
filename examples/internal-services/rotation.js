// node rotation.js: a new secret for a running service, by a table of keys and by the single column.
import { pathToFileURL } from 'node:url';
import { addKey, createDatabase, endOtherKeys, newSecret, owners, startApi, startService, storeSecret } from './deploy.js';
import { Load, seconds } from '../support.js';

export async function rotate({ keys, database, port = process.env.PGPORT }) {
    await createDatabase(database);
    const old = await newSecret();
    const fresh = await newSecret();
    const email = owners.mail;
    const store = keys === 'service_keys' ? addKey : storeSecret;
    await store(database, email, old);

    const api = await startApi(database, { keys, port });
    const start = (secret) => Promise.all([0, 1].map(() => startService(api, secret, 'GET /contacts')));
    const load = new Load(await start(old), async (url) => {
        const response = await fetch(url);
        await response.arrayBuffer();
        return response.status === 200 ? undefined : response.status;
    });
    try {
        await seconds(0.3);
        await store(database, email, fresh); // beside the old one in service_keys, over it in users
        await seconds(0.3); // as long as it takes until somebody redeploys
        await load.replace(await start(fresh));
        if (keys === 'service_keys') await endOtherKeys(database, email, fresh);
        await seconds(0.3);
    } finally {
        await load.end();
    }
    const ended = await startService(api, old, 'GET /contacts');
    const { status } = await fetch(ended.url);
    await ended.stop();
    await api.stop();
    console.log(`rotation by ${keys.padEnd(13)} ${load.failed} of ${load.sent} requests failed; the old key gets ${status}`);
    return { sent: load.sent, failed: load.failed, failures: Object.fromEntries(load.failures), old: status };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
    for (const keys of ['service_keys', 'users']) await rotate({ keys, database: `rotation_${keys}` });
}
