import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { promisify } from 'node:util';

test('the migrations say what the schema says', async () => {
    const here = fileURLToPath(new URL('..', import.meta.url));
    const folder = await mkdtemp(join(tmpdir(), 'migrations-'));
    try {
        await cp(join(here, 'drizzle'), folder, { recursive: true });
        const before = await readdir(folder);
        const { stdout } = await promisify(execFile)(join(here, 'node_modules/.bin/drizzle-kit'), ['generate'], {
            cwd: here,
            env: { ...process.env, MIGRATIONS: relative(here, folder) }, // drizzle-kit takes no absolute one here
        });
        assert.match(stdout, /No schema changes/);
        assert.deepEqual(await readdir(folder), before);
    } finally {
        await rm(folder, { recursive: true });
    }
});
