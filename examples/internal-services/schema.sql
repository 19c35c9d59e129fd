-- Run by the tables' owner.

-- The system as the guide has it: digests in users.api_key_hash, made by the application.

CREATE TABLE tenants (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL
);

CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text NOT NULL UNIQUE,
    tenant_id bigint NOT NULL REFERENCES tenants,
    permissions text[] NOT NULL DEFAULT '{}',
    api_key_hash text UNIQUE
);

CREATE TABLE contacts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    name text NOT NULL
);

CREATE TABLE mails (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants,
    subject text NOT NULL
);

-- A request sees its tenant's rows, whatever the API's queries forget to ask.
ALTER TABLE contacts ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON contacts
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::bigint);
ALTER TABLE mails ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON mails
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::bigint);

-- What pg_api_key adds: a column to write keys to, which never holds one.

CREATE EXTENSION IF NOT EXISTS pg_api_key;
ALTER TABLE users ADD COLUMN api_key text;
SELECT protect_api_keys('users');

-- For rotation without a gap: several keys per user, each with an end.

CREATE TABLE service_keys (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE,
    api_key text,
    api_key_hash text,
    valid_until timestamptz NOT NULL DEFAULT 'infinity'
);
CREATE INDEX ON service_keys (user_id);
SELECT protect_api_keys('service_keys');

-- The API looks digests up and never sees a key column.
GRANT SELECT (id, email, tenant_id, permissions, api_key_hash) ON users TO internal_api;
GRANT SELECT (user_id, api_key_hash, valid_until) ON service_keys TO internal_api;
GRANT SELECT ON contacts TO internal_api;
GRANT SELECT, INSERT ON mails TO internal_api;

INSERT INTO tenants (name) VALUES ('north'), ('south');
INSERT INTO users (email, tenant_id, permissions) VALUES
    ('mail-service@system', 1, '{contacts.read, mail.write}'),
    ('analysis-service@system', 2, '{contacts.read}');
INSERT INTO contacts (tenant_id, name) VALUES
    (1, 'a contact of north'), (1, 'another contact of north'), (2, 'a contact of south');
