// Release 3, to stay: one look-up for bcrypt and SHA-256 alike. Since the key column is always null
// when read, nothing here can hand a key out.
import { sql } from 'drizzle-orm';
import { clients } from '../schema.js';

export { clients };

export const noKey = { apiKey: null, apiKeyHash: null, apiKeyTag: null };

export const clientFinder = (db) =>
    db
        .select({ id: sql`${clients.id}`.mapWith(Number), name: sql`${clients.name}` })
        .from(sql`find_by_api_key(NULL::clients, ${sql.placeholder('key')}) AS clients`)
        .prepare('client_by_hash');
