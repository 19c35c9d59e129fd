// node serve.js: the payments service in its last release, ready to be tried.
import { once } from 'node:events';
import { addAdmin, admin, createDatabase, migrateTo, start } from './deploy.js';

await createDatabase('payments');
await migrateTo('payments', '9999');
await addAdmin('payments');
const service = await start('payments', 'hashed', { port: process.env.BOUNCER_PORT });
console.log(`
The payments service answers. In another shell, create a client; its key is shown this once:

    curl -s -u '${admin.email}:${admin.password}' -H 'Content-Type: application/json' \\
        -d '{"name": "my shop"}' ${service.url}/admin/clients

Pay with it:

    curl -s -H 'X-API-Key: THE KEY' -H 'Content-Type: application/json' \\
        -d '{"amount": 1250, "currency": "EUR"}' ${service.url}/payments

And see what the table has of it:

    ${process.env.PSQL} -h ${process.env.PGHOST} -U postgres payments -c 'SELECT * FROM clients'

Ctrl-C ends all of it.`);
await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
await service.stop();
