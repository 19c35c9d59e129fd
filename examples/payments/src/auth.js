import { randomBytes } from 'node:crypto';
import bcrypt from 'bcryptjs';
import { eq } from 'drizzle-orm';
import { admins } from './schema.js';

export const generateApiKey = () => `pk_${randomBytes(32).toString('hex')}`;

// One query; the database hashes and compares.
export const requireApiKey = (findClient) => async (req, res, next) => {
    const key = req.get('X-API-Key');
    const [client] = key ? await findClient.execute({ key }) : [];
    if (!client) return res.status(401).json({ error: 'missing or unknown API key' });
    req.client = client;
    next();
};

// Administrators have passwords, which are what bcrypt is for. HTTP Basic keeps the example short.
export const requireAdmin = (db) => async (req, res, next) => {
    const [scheme, credentials = ''] = (req.get('Authorization') ?? '').split(' ');
    const [email, ...password] = Buffer.from(credentials, 'base64').toString().split(':');
    const [admin] = scheme === 'Basic' ? await db.select().from(admins).where(eq(admins.email, email)) : [];
    if (!admin || !(await bcrypt.compare(password.join(':'), admin.passwordHash))) {
        return res.status(401).json({ error: 'administrators only' });
    }
    next();
};
