// node src/server.js: RELEASE=plaintext, window or hashed; PORT=0 takes a free one.
import { once } from 'node:events';
import { drizzle } from 'drizzle-orm/node-postgres';
import pg from 'pg';
import { createApp } from './app.js';

const release = await import(`./releases/${process.env.RELEASE ?? 'hashed'}.js`);
const pool = new pg.Pool({ max: Number(process.env.POOL ?? 4) }); // PGHOST, PGPORT, PGUSER, PGDATABASE
pool.on('error', (error) => console.error(JSON.stringify({ msg: 'connection lost', error: error.message })));

const server = createApp(drizzle(pool), release).listen(Number(process.env.PORT ?? 0), '127.0.0.1');
await once(server, 'listening');
console.log(JSON.stringify({ msg: 'listening', url: `http://127.0.0.1:${server.address().port}` }));

for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => {
        server.close(() => pool.end());
        server.closeIdleConnections();
    });
}
