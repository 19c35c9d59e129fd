// node src/service.js: an internal service. INTERNAL_API_KEY is the secret itself, not its digest;
// API_URL the API; CALL what it asks there, such as "GET /contacts". It does so once a request.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { log } from './log.js';

const { INTERNAL_API_KEY, API_URL, CALL = 'GET /contacts' } = process.env;
const [method, path] = CALL.split(' ');

const server = createServer(async (request, response) => {
    request.resume();
    try {
        const called = await fetch(API_URL + path, { method, headers: { 'X-Internal-Api-Key': INTERNAL_API_KEY } });
        response.writeHead(called.status, { 'Content-Type': 'application/json' }).end(await called.text());
    } catch (error) {
        log('error', 'the API does not answer', { code: error.cause?.code });
        response.writeHead(502).end();
    }
});
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1');
await once(server, 'listening');
log('info', 'listening', { url: `http://127.0.0.1:${server.address().port}` });

for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => {
        server.close();
        server.closeIdleConnections();
    });
}
