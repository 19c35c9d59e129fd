import { defineConfig } from 'drizzle-kit';

// The connection comes from the variables that psql uses too. PGHOST may be the folder of a socket.
export default defineConfig({
    dialect: 'postgresql',
    schema: './src/schema.js',
    out: process.env.MIGRATIONS ?? './drizzle',
    dbCredentials: {
        host: process.env.PGHOST ?? '127.0.0.1',
        port: Number(process.env.PGPORT ?? 5432),
        user: process.env.PGUSER ?? 'payments',
        database: process.env.PGDATABASE ?? 'payments',
        ssl: false,
    },
});
