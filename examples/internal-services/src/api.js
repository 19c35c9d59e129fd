// node src/api.js: the API. KEYS=users or service_keys says where keys are looked up.
import { once } from 'node:events';
import { createServer } from 'node:http';
import pg from 'pg';
import { asUser, authenticate } from './auth.js';
import { log } from './log.js';

const pool = new pg.Pool({ max: 4 }); // PGHOST, PGPORT, PGUSER, PGDATABASE
pool.on('error', (error) => log('error', 'connection lost', { error: error.message }));

const routes = {
    'GET /contacts': {
        permission: 'contacts.read',
        run: async (db) => (await db.query({ name: 'contacts', text: 'SELECT name FROM contacts ORDER BY id' })).rows,
    },
    'POST /mails': {
        permission: 'mail.write',
        run: async (db, user) => {
            const text = 'INSERT INTO mails (tenant_id, subject) VALUES ($1, $2) RETURNING id';
            return (await db.query({ name: 'mail', text, values: [user.tenant_id, 'hello'] })).rows[0];
        },
    },
};

async function answer(request) {
    const user = await authenticate(pool, process.env.KEYS ?? 'service_keys', request);
    if (!user) return [401, { error: 'unauthorized' }];
    const route = routes[`${request.method} ${request.url}`];
    if (!route) return [404, { error: 'not found' }];
    if (!user.permissions.includes(route.permission)) return [403, { error: `${route.permission} is not permitted` }];
    return [200, await asUser(pool, user, (db) => route.run(db, user))];
}

const server = createServer(async (request, response) => {
    request.resume();
    const [status, body] = await answer(request).catch((error) => {
        log('error', 'request failed', { path: request.url, code: error.code, error: error.message });
        return [500, { error: 'internal error' }];
    });
    response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
});
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1');
await once(server, 'listening');
log('info', 'listening', { url: `http://127.0.0.1:${server.address().port}` });

for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => {
        server.close(() => pool.end());
        server.closeIdleConnections();
    });
}
