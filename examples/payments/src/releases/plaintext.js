// Release 1, as it was: keys in plaintext, looked up as they are.
import { eq, sql } from 'drizzle-orm';
import { bigint, pgTable, text, timestamp } from 'drizzle-orm/pg-core';

export const clients = pgTable('clients', {
    id: bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    name: text().notNull(),
    apiKey: text('api_key').unique(),
    lastUsedAt: timestamp('last_used_at', { withTimezone: true }),
});

export const noKey = { apiKey: null };

export const clientFinder = (db) =>
    db
        .select({ id: clients.id, name: clients.name })
        .from(clients)
        .where(eq(clients.apiKey, sql.placeholder('key')))
        .prepare('client_by_plaintext');
