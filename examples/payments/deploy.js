// What a team's deployment does: a database, drizzle-kit's migrations up to a release, services.
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import bcrypt from 'bcryptjs';
import { psql, serve } from '../support.js';

const here = fileURLToPath(new URL('.', import.meta.url));
export const admin = { email: 'admin@example.org', password: randomBytes(9).toString('base64url') };

export async function createDatabase(name) {
    const roles = await psql('postgres', `SELECT count(*) FROM pg_roles WHERE rolname = 'payments'`);
    if (roles === '0') await psql('postgres', await readFile(join(here, 'database.sql'), 'utf8'));
    await psql('postgres', `CREATE DATABASE :"name" OWNER payments`, { name });
    await psql(
        name,
        `GRANT CREATE ON SCHEMA public TO payments;
         ALTER DEFAULT PRIVILEGES FOR ROLE payments GRANT SELECT, INSERT, UPDATE ON TABLES TO payments_app`,
    );
}

// Every release brings the migrations up to its own; drizzle-kit runs those that are new.
export async function migrateTo(database, last, { algorithm = 'bcrypt', port = process.env.PGPORT } = {}) {
    const folder = await mkdtemp(join(tmpdir(), 'migrations-'));
    try {
        await cp(join(here, 'drizzle'), folder, { recursive: true });
        const path = join(folder, 'meta', '_journal.json');
        const journal = JSON.parse(await readFile(path, 'utf8'));
        journal.entries = journal.entries.filter(({ tag }) => tag.slice(0, 4) <= last);
        await writeFile(path, JSON.stringify(journal));
        const protect = join(folder, '0003_protect_api_keys.sql');
        await writeFile(protect, (await readFile(protect, 'utf8')).replace(/=> 'bcrypt'/, `=> '${algorithm}'`));
        const environment = { MIGRATIONS: folder, PGDATABASE: database, PGUSER: 'payments', PGPORT: port };
        await promisify(execFile)(join(here, 'node_modules/.bin/drizzle-kit'), ['migrate'], {
            cwd: here,
            env: { ...process.env, ...environment },
        });
    } finally {
        await rm(folder, { recursive: true });
    }
}

export async function addAdmin(database) {
    const hash = await bcrypt.hash(admin.password, 10);
    await psql(database, `INSERT INTO admins VALUES (:'email', :'hash')`, { email: admin.email, hash });
}

export const start = (database, release, { port = process.env.PGPORT, pool = 4 } = {}) =>
    serve(join(here, 'src/server.js'), {
        RELEASE: release,
        PGDATABASE: database,
        PGUSER: 'payments_app',
        PGPORT: port,
        POOL: String(pool),
        PORT: '0',
    });

// requests

const basic = `Basic ${Buffer.from(`${admin.email}:${admin.password}`).toString('base64')}`;

export const asAdmin = (url, method, path, body) =>
    fetch(`${url}/admin/${path}`, {
        method,
        headers: { Authorization: basic, 'Content-Type': 'application/json' },
        body: body && JSON.stringify(body),
    });

export async function createClient(url, name) {
    const response = await asAdmin(url, 'POST', 'clients', { name });
    if (response.status !== 201) throw new Error(`creating a client: ${response.status}`);
    return response.json();
}

export async function pay(url, apiKey) {
    const response = await fetch(`${url}/payments`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', ...(apiKey && { 'X-API-Key': apiKey }) },
        body: JSON.stringify({ amount: 1250, currency: 'EUR' }),
    });
    await response.arrayBuffer();
    return response.status;
}
