-- The demo's tables, as a system in service has them before anybody thinks of hashing.
-- Every key is random, made here and worth nothing.

CREATE FUNCTION pg_temp.random_bytes() RETURNS bytea LANGUAGE sql VOLATILE AS
    'SELECT sha256(uuid_send(gen_random_uuid()))'; -- 32 bytes
CREATE FUNCTION pg_temp.random_letters(length integer) RETURNS text LANGUAGE sql VOLATILE AS
    $$SELECT left(string_agg(translate(encode(pg_temp.random_bytes(), 'base64'), '+/=', ''), ''), length)
        FROM generate_series(0, length / 24)$$; -- A-Z, a-z, 0-9
CREATE FUNCTION pg_temp.random_digits(length integer) RETURNS text LANGUAGE sql VOLATILE AS
    'SELECT string_agg(floor(random() * 10)::text, '''') FROM generate_series(1, length)';

-- clients: one plaintext key each, in the forms that real systems use

CREATE TABLE clients (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    form text NOT NULL,
    api_key text UNIQUE
);

INSERT INTO clients (name, form, api_key)
SELECT 'client ' || n, form,
       CASE form
           WHEN 'hex' THEN encode(pg_temp.random_bytes(), 'hex')
           WHEN 'base64url' THEN rtrim(translate(encode(pg_temp.random_bytes(), 'base64'), '+/', '-_'), '=')
           WHEN 'UUID' THEN gen_random_uuid()::text
           WHEN 'GitHub' THEN generate_api_key('ghp')
           WHEN 'Stripe' THEN 'sk_live_51' || pg_temp.random_letters(97)
           WHEN 'Slack' THEN format('xoxb-%s-%s-%s', pg_temp.random_digits(12), pg_temp.random_digits(13),
                                    pg_temp.random_letters(24))
       END
  FROM generate_series(1, 20000) AS n,
       LATERAL (SELECT (ARRAY['hex', 'base64url', 'UUID', 'GitHub', 'Stripe', 'Slack'])[1 + n % 6]) AS f (form);

-- partners: fewer, and their contract says bcrypt

CREATE TABLE partners (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    api_key text
);

INSERT INTO partners (name, api_key)
SELECT 'partner ' || n, encode(pg_temp.random_bytes(), 'hex') FROM generate_series(1, 20) AS n;

-- users: internal services; the application stores SHA-256 hashes already

CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL UNIQUE,
    tenant text NOT NULL,
    permissions text[] NOT NULL,
    api_key_hash text UNIQUE
);

INSERT INTO users (email, tenant, permissions) VALUES
    ('mail-service@system', 'north', '{contacts.read, mail.write}'),
    ('analysis-service@system', 'north', '{contacts.read}');

ANALYZE;
