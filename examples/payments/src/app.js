import express from 'express';
import { count, eq, sql, sum } from 'drizzle-orm';
import { generateApiKey, requireAdmin, requireApiKey } from './auth.js';
import { payments } from './schema.js';

// The line that creates a client is the same in all three releases.
export function createApp(db, { clients, clientFinder, noKey }) {
    const app = express();
    app.disable('x-powered-by');
    app.use(express.json());

    const admin = requireAdmin(db);
    const client = requireApiKey(clientFinder(db));

    app.post('/admin/clients', admin, async (req, res) => {
        const apiKey = generateApiKey();
        const [created] = await db
            .insert(clients)
            .values({ name: String(req.body?.name ?? 'unnamed'), apiKey })
            .returning({ id: clients.id, name: clients.name });
        res.status(201).json({ ...created, apiKey }); // the only time that anyone sees it
    });

    app.post('/admin/clients/:id/key', admin, async (req, res) => {
        const apiKey = generateApiKey();
        const found = await db.update(clients).set({ apiKey }).where(eq(clients.id, Number(req.params.id)));
        if (found.rowCount === 0) return res.status(404).json({ error: 'no such client' });
        res.json({ apiKey });
    });

    app.delete('/admin/clients/:id/key', admin, async (req, res) => {
        const found = await db.update(clients).set(noKey).where(eq(clients.id, Number(req.params.id)));
        res.status(found.rowCount ? 204 : 404).end();
    });

    app.post('/payments', client, async (req, res) => {
        const { amount, currency } = req.body ?? {};
        if (!Number.isInteger(amount) || amount <= 0 || !/^[A-Z]{3}$/.test(currency)) {
            return res.status(400).json({ error: 'a payment has an amount, in cents, and a currency' });
        }
        const payment = await db.transaction(async (tx) => {
            await tx.update(clients).set({ lastUsedAt: sql`now()` }).where(eq(clients.id, req.client.id));
            const values = { clientId: req.client.id, amount, currency };
            const [stored] = await tx.insert(payments).values(values).returning({ id: payments.id });
            return stored;
        });
        res.json({ id: payment.id, client: req.client.name, amount, currency });
    });

    app.get('/payments', client, async (req, res) => {
        const [row] = await db
            .select({ payments: count(), total: sum(payments.amount).mapWith(Number) })
            .from(payments)
            .where(eq(payments.clientId, req.client.id));
        res.json({ client: req.client.name, ...row });
    });

    // Drizzle's error message holds the query's parameters, and so the key: log the cause, never the error.
    app.use((error, req, res, next) => {
        const cause = error.cause ?? error;
        if (res.headersSent) return next(cause);
        if (error.status < 500) return res.status(error.status).json({ error: 'malformed request' });
        console.error(JSON.stringify({ msg: 'request failed', path: req.path, code: cause.code, error: cause.message }));
        res.status(500).json({ error: 'internal error' });
    });
    return app;
}
