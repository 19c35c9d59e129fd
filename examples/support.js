// What the examples' tests share: psql, and processes that serve HTTP.
import { execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const run = promisify(execFile);

// SQL as a superuser, straight to PostgreSQL; variables are psql's :'name'. Returns what psql prints.
export async function psql(database, sql, variables = {}) {
    const set = Object.entries(variables).flatMap(([name, value]) => ['-v', `${name}=${value}`]);
    const child = run('psql', ['-qXAt', '-v', 'ON_ERROR_STOP=1', '-U', 'postgres', '-d', database, ...set]);
    child.child.stdin.end(sql);
    const { stdout } = await child;
    return stdout.trim();
}

// Two ways to the same server: straight, and through pgbouncer in transaction mode.
export const ways = { direct: process.env.PGPORT, pgbouncer: process.env.BOUNCER_PORT };

// Starts a Node program that prints {"msg": "listening", "url": ...}; resolves when it has.
export async function serve(program, environment) {
    const child = spawn(process.execPath, [program], {
        env: { ...process.env, ...environment },
        stdio: ['ignore', 'pipe', 'pipe'],
    });
    const service = { log: [], url: undefined };
    service.stop = async () => {
        if (child.exitCode === null && child.signalCode === null) {
            const ended = new Promise((resolve) => child.once('exit', resolve));
            child.kill('SIGTERM');
            const impatience = setTimeout(() => child.kill('SIGKILL'), 5000);
            await ended;
            clearTimeout(impatience);
        }
    };
    await new Promise((resolve, reject) => {
        child.once('exit', () => reject(new Error(`${program} ended: ${service.log.join('\n')}`)));
        createInterface({ input: child.stderr }).on('line', (line) => service.log.push(line));
        createInterface({ input: child.stdout }).on('line', (line) => {
            service.log.push(line);
            const { msg, url } = JSON.parse(line);
            if (msg === 'listening') {
                service.url = url;
                resolve();
            }
        });
    });
    return service;
}

// A balancer and its callers: `callers` loops send one request after the other, each to the next of
// the services in use; what valid requests were answered is counted.
export class Load {
    sent = 0;
    failed = 0;
    failures = new Map();
    #services = [];
    #underway = new Map();
    #loops = [];
    #ending = false;

    // request(url) resolves to undefined if all is well, else to what went wrong.
    constructor(services, request, { callers = 4, pause = 5 } = {}) {
        this.#services = services;
        this.#loops = Array.from({ length: callers }, async () => {
            while (!this.#ending) {
                const service = this.#services[this.sent++ % this.#services.length];
                this.#underway.set(service, (this.#underway.get(service) ?? 0) + 1);
                const problem = await request(service.url).catch((error) => error.cause?.code ?? error.message);
                this.#underway.set(service, this.#underway.get(service) - 1);
                if (problem !== undefined) {
                    this.failed++;
                    this.failures.set(problem, (this.failures.get(problem) ?? 0) + 1);
                }
                await new Promise((resolve) => setTimeout(resolve, pause));
            }
        });
    }

    // A rolling deployment: new services come into use, old ones go when they have answered all.
    async replace(fresh) {
        for (let place = 0; place < fresh.length; place++) {
            const old = this.#services[place];
            this.#services = Object.assign([...this.#services], { [place]: fresh[place] });
            while (this.#underway.get(old) > 0) await new Promise((resolve) => setTimeout(resolve, 5));
            await old.stop();
        }
    }

    async end() {
        this.#ending = true;
        await Promise.all(this.#loops);
        await Promise.all(this.#services.map((service) => service.stop()));
        return this;
    }
}

export const seconds = (number) => new Promise((resolve) => setTimeout(resolve, number * 1000));

// percentile(samples, 0.5) is the median
export function percentile(samples, share) {
    const sorted = [...samples].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}
