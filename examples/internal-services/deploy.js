// What a team's deployment does: a database, secrets, the API and the services that call it.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { psql, serve } from '../support.js';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
export const owners = { mail: 'mail-service@system', analysis: 'analysis-service@system' };

export async function createDatabase(name) {
    const roles = await psql('postgres', `SELECT count(*) FROM pg_roles WHERE rolname = 'internal'`);
    if (roles === '0') await psql('postgres', await readFile(here('roles.sql'), 'utf8'));
    await psql('postgres', `CREATE DATABASE :"name" OWNER internal`, { name });
    await psql(name, 'GRANT CREATE ON SCHEMA public TO internal');
    await psql(name, `SET ROLE internal; ${await readFile(here('schema.sql'), 'utf8')}`);
}

// shell('echo -n "$1" | shasum -a 256', key): what an operator types
export async function shell(command, ...words) {
    const { stdout } = await promisify(execFile)('sh', ['-c', command, 'sh', ...words]);
    return stdout;
}

// Steps 1 to 3 of the guide, as written there; its pipe is a program's here, so that no `echo` differs.
export const newSecret = async () => (await shell('openssl rand -hex 32')).trim();
export const digest = async (secret) => (await shell(`printf '%s' "$1" | shasum -a 256`, secret)).split(' ')[0];

export const storeDigest = (database, email, hash) =>
    psql(database, `UPDATE users SET api_key_hash = :'hash' WHERE email = :'email'`, { email, hash });

// The same in one step: the table hashes.
export const storeSecret = (database, email, secret) =>
    psql(database, `UPDATE users SET api_key = :'secret' WHERE email = :'email'`, { email, secret });

// One more key, beside those that are valid already.
export const addKey = (database, email, secret) =>
    psql(database, `INSERT INTO service_keys (user_id, api_key) SELECT id, :'secret' FROM users WHERE email = :'email'`, { email, secret });

// The other keys of the user end.
export const endOtherKeys = (database, email, secret) =>
    psql(
        database,
        `UPDATE service_keys SET valid_until = now()
          WHERE user_id = (SELECT id FROM users WHERE email = :'email') AND api_key_hash <> hash_api_key(:'secret')`,
        { email, secret },
    );

export const explain = (database, table, key) =>
    psql(database, `SELECT explain_api_key(:'table'::regclass, :'key')`, { table, key });

export const startApi = (database, { keys = 'service_keys', port = process.env.PGPORT } = {}) =>
    serve(here('src/api.js'), { KEYS: keys, PGDATABASE: database, PGUSER: 'internal_api', PGPORT: port, PORT: '0' });

export const startService = (api, secret, call) =>
    serve(here('src/service.js'), { INTERNAL_API_KEY: secret, API_URL: api.url, CALL: call, PORT: '0' });

export async function call(url, key, request = 'GET /contacts') {
    const [method, path] = request.split(' ');
    const response = await fetch(url + path, { method, headers: key === undefined ? {} : { 'X-Internal-Api-Key': key } });
    return { status: response.status, body: await response.json() };
}
