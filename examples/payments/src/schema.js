import { bigint, index, integer, pgTable, text, timestamp } from 'drizzle-orm/pg-core';

export const admins = pgTable('admins', {
    email: text().primaryKey(),
    passwordHash: text('password_hash').notNull(),
});

// apiKey is written only: the database hashes what arrives there, and clears it.
export const clients = pgTable(
    'clients',
    {
        id: bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
        name: text().notNull(),
        apiKey: text('api_key'),
        lastUsedAt: timestamp('last_used_at', { withTimezone: true }),
        apiKeyHash: text('api_key_hash').unique(),
        apiKeyTag: integer('api_key_tag'),
    },
    (table) => [index().on(table.apiKeyTag)],
);

export const payments = pgTable(
    'payments',
    {
        id: bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
        clientId: bigint('client_id', { mode: 'number' }).notNull().references(() => clients.id),
        amount: integer().notNull(), // in the currency's smallest unit
        currency: text().notNull(),
        createdAt: timestamp('created_at', { withTimezone: true }).notNull().defaultNow(),
    },
    (table) => [index().on(table.clientId)],
);
