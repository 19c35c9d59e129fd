import { createHash } from 'node:crypto';
import { log } from './log.js';

const queries = {
    // as in the guide: one key per user
    users: {
        name: 'user_by_key',
        text: 'SELECT id, email, tenant_id, permissions FROM users WHERE api_key_hash = $1',
    },
    // several, each with an end
    service_keys: {
        name: 'user_by_service_key',
        text: `SELECT u.id, u.email, u.tenant_id, u.permissions
                 FROM service_keys AS k JOIN users AS u ON u.id = k.user_id
                WHERE k.api_key_hash = $1 AND k.valid_until > now()`,
    },
};

// The digest is made here, so the key gets no further than this function. It is the same digest that
// hash_api_key() makes: WHERE api_key_hash = hash_api_key($1) would do, too.
export async function authenticate(pool, keys, request) {
    const key = request.headers['x-internal-api-key'];
    if (!key) {
        log('warn', 'Internal API call without a key', { path: request.url });
        return undefined;
    }
    const hash = createHash('sha256').update(key).digest('hex');
    const { rows } = await pool.query({ ...queries[keys], values: [hash] });
    const facts = { hashPrefix: hash.slice(0, 12), path: request.url };
    if (rows.length === 0) {
        log('warn', 'Internal API call refused', facts);
        return undefined;
    }
    log('info', 'Internal API call authenticated', { ...facts, user: rows[0].email });
    return rows[0];
}

// Runs the work as the user: in a transaction that sees the rows of the user's tenant only. The
// setting is local to the transaction, so pgbouncer may give the connection to anybody afterwards.
export async function asUser(pool, user, work) {
    const connection = await pool.connect();
    try {
        await connection.query('BEGIN');
        await connection.query({ name: 'tenant', text: `SELECT set_config('app.tenant', $1, true)`, values: [user.tenant_id] });
        const result = await work(connection);
        await connection.query('COMMIT');
        connection.release();
        return result;
    } catch (error) {
        connection.release(error);
        throw error;
    }
}
