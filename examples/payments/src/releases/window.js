// Release 2, the fallback window: finds plaintext and hashes, whether the table is protected yet or not.
import { and, eq, or, sql } from 'drizzle-orm';
import { clients } from '../schema.js';

export { clients };

export const noKey = { apiKey: null, apiKeyHash: null, apiKeyTag: null };

const key = sql.placeholder('key');

export const clientFinder = (db) =>
    db
        .select({ id: clients.id, name: clients.name })
        .from(clients)
        .where(
            or(
                eq(clients.apiKey, key),
                and(
                    // A hash that bcryptjs made has no tag until its key is written once more.
                    or(eq(clients.apiKeyTag, sql`api_key_tag(${key})`), sql`${clients.apiKeyTag} IS NULL`),
                    sql`verify_api_key(${key}, ${clients.apiKeyHash})`,
                ),
            ),
        )
        .prepare('client_by_either');
