-- what protect_api_keys refuses or warns of, before it touches anything
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

-- nothing to say
CREATE TABLE clients (id integer PRIMARY KEY, api_key text);
SELECT * FROM api_key_preflight('clients', 'api_key', 'api_key_hash', 'sha256', NULL);
DROP TABLE clients;

-- errors

CREATE TABLE clients (id integer PRIMARY KEY, token text);
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''ctid'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''token'', ''token'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''token'', ''token_tag'', ''bcrypt'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''token'', ''ctid'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''id'')');
DROP TABLE clients;

CREATE TYPE mood AS ENUM ('sad');
CREATE TABLE clients (b bytea, u uuid, a text[], j jsonb, n name, m mood, c "char");
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''b'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''u'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''a'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''j'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''n'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''m'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''c'')');
DROP TABLE clients;
DROP TYPE mood;

CREATE TABLE clients (id integer, api_key text NOT NULL);
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text PRIMARY KEY);
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text, PRIMARY KEY (id, api_key));
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text UNIQUE);
CREATE TABLE sessions (api_key text REFERENCES clients (api_key));
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
SELECT probe.answer('SELECT protect_api_keys(''sessions'')');
DROP TABLE clients, sessions;
CREATE DOMAIN required AS text NOT NULL;
CREATE DOMAIN required_too AS text CHECK (VALUE IS NOT NULL);
CREATE TABLE clients (id integer, a required, b required_too);
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''a'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', ''b'')');
DROP TABLE clients;
DROP DOMAIN required, required_too;
CREATE TABLE clients (id integer, api_key text, api_key_id integer) PARTITION BY HASH (api_key);
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text, api_key_id integer) PARTITION BY HASH (lower(api_key));
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text, api_key_id integer) PARTITION BY RANGE (id);
CREATE TABLE clients_1 PARTITION OF clients FOR VALUES FROM (1) TO (9) PARTITION BY HASH (api_key);
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text) PARTITION BY RANGE (id);
CREATE TABLE clients_1 PARTITION OF clients FOR VALUES FROM (1) TO (9);
CREATE TABLE clients_2 PARTITION OF clients FOR VALUES FROM (9) TO (99);
ALTER TABLE clients_1 ALTER COLUMN api_key SET NOT NULL;
ALTER TABLE clients_2 ALTER COLUMN api_key SET DEFAULT 'key';
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
-- a column of a similar name is none of its business
CREATE TABLE clients (id integer, api_key text, api_key_id integer) PARTITION BY RANGE ((api_key_id + 1));
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text DEFAULT 'key');
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
CREATE TABLE clients (id integer, name text, api_key text GENERATED ALWAYS AS (name || 'x') STORED);
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text, prefix text GENERATED ALWAYS AS (left(api_key, 4)) STORED);
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text, CHECK (api_key IS NOT NULL));
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text, CHECK (coalesce(length(api_key), 0) > 4));
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text);
CREATE POLICY own ON clients USING (api_key = current_setting('app.key', true));
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;
-- the hash column
CREATE TABLE clients (id integer, api_key text, a varchar(60), b char(32), c bytea, d uuid, e integer, f text GENERATED ALWAYS AS ('x') STORED, g name, h refcursor, i varchar(60));
SELECT probe.answer('SELECT protect_api_keys(''clients'', hash_column => ''a'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', hash_column => ''b'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', hash_column => ''c'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', hash_column => ''d'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', hash_column => ''e'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', hash_column => ''f'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', hash_column => ''g'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', hash_column => ''g'', algorithm => ''bcrypt'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', hash_column => ''h'')');
SELECT probe.answer('SELECT protect_api_keys(''clients'', hash_column => ''i'')');
SELECT protect_api_keys('clients', hash_column => 'i', algorithm => 'bcrypt', cost => 4);
-- from there to SHA-256 is too far
SELECT probe.answer('SELECT protect_api_keys(''clients'', hash_column => ''i'')');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text, api_key_tag text);
SELECT probe.answer('SELECT protect_api_keys(''clients'', algorithm => ''bcrypt'')');
DROP TABLE clients;
-- several at once: one is raised, the others are its detail
CREATE TABLE clients (id integer, api_key text NOT NULL DEFAULT 'key', api_key_hash varchar(10), CHECK (api_key IS NOT NULL));
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
-- and nothing has been touched
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'clients'::regclass;
DROP TABLE clients;
-- hash indexes need hashes that differ
CREATE TABLE clients (id integer, api_key text, api_key_hash text);
INSERT INTO clients VALUES (1, NULL, hash_api_key('key')), (2, NULL, hash_api_key('key'));
SELECT probe.answer('SELECT protect_api_keys(''clients'')');
DROP TABLE clients;

-- warnings

SET client_min_messages = warning;
CREATE TABLE clients (id integer, api_key text, CHECK (length(api_key) > 4), CONSTRAINT either CHECK (api_key IS NOT NULL OR id > 0));
SELECT protect_api_keys('clients');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text, name text);
CREATE STATISTICS key_stats ON api_key, name FROM clients;
CREATE SCHEMA other;
CREATE STATISTICS other."Key Stats" ON (lower(api_key)) FROM clients;
SELECT protect_api_keys('clients');
DROP TABLE clients;
DROP SCHEMA other;
CREATE TABLE clients (id integer, api_key text CONSTRAINT one_key UNIQUE, EXCLUDE (api_key WITH =));
CREATE INDEX by_prefix ON clients (left(api_key, 4));
CREATE INDEX with_key ON clients (id) WHERE api_key IS NOT NULL;
CREATE INDEX covering ON clients (id) INCLUDE (api_key);
CREATE INDEX innocent ON clients (id);
SELECT protect_api_keys('clients');
DROP TABLE clients;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE clients (id integer, api_key text);
CREATE TRIGGER "a before insert" BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER "b after insert" AFTER INSERT ON clients FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER "c after update" AFTER UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER "d after delete" AFTER DELETE ON clients FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER "e before delete" BEFORE DELETE ON clients FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER " first" BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER "!a" BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER "~z" BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER "été" BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION nothing();
SELECT protect_api_keys('clients');
DROP TABLE clients;
DROP FUNCTION nothing;
CREATE TABLE clients (id integer, api_key text);
CREATE TABLE log (api_key text);
CREATE RULE keep_log AS ON INSERT TO clients DO ALSO INSERT INTO log VALUES (NEW.api_key);
SELECT protect_api_keys('clients');
DROP TABLE clients, log;
CREATE TABLE clients (id integer PRIMARY KEY, api_key text);
ALTER TABLE clients REPLICA IDENTITY FULL;
SELECT protect_api_keys('clients');
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key text) PARTITION BY RANGE (id);
CREATE TABLE clients_1 PARTITION OF clients FOR VALUES FROM (1) TO (9);
ALTER TABLE clients_1 REPLICA IDENTITY FULL;
SELECT protect_api_keys('clients');
DROP TABLE clients;
CREATE TABLE clients (id integer PRIMARY KEY, api_key text, api_key_hash text);
INSERT INTO clients VALUES (1, 'good', NULL), (2, '', 'no hash'), (3, 'a b', NULL), (4, 'c d', hash_api_key('x')), (5, 'twice', NULL), (6, 'twice', ''), (7, NULL, NULL), (8, NULL, NULL);
SELECT protect_api_keys('clients');
DROP TABLE clients;
-- bcrypt takes duplicates, and a unique index shows that there are none
CREATE TABLE clients (id integer PRIMARY KEY, api_key text);
INSERT INTO clients VALUES (1, 'twice'), (2, 'twice'), (3, repeat('k', 73));
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 4);
DROP TABLE clients;
-- a warning comes with each change of protection, not with a call that changes nothing
CREATE TABLE clients (id integer PRIMARY KEY, api_key text, CHECK (length(api_key) > 4));
SELECT protect_api_keys('clients');
SELECT protect_api_keys('clients');
DROP TABLE clients;
RESET client_min_messages;
SET client_min_messages = error;
CREATE TABLE clients (id integer PRIMARY KEY, api_key text);
CREATE PUBLICATION all_clients FOR TABLE clients;
RESET client_min_messages;
SELECT protect_api_keys('clients');
DROP PUBLICATION all_clients;
DROP TABLE clients;
-- a table that would keep its users waiting: how to go about it
SET client_min_messages = error;
CREATE TABLE clients (id integer PRIMARY KEY, api_key text, filler text);
ALTER TABLE clients ALTER COLUMN filler SET STORAGE PLAIN;
INSERT INTO clients SELECT n, 'key-' || n, repeat('x', 7900) FROM generate_series(1, 8200) AS n;
RESET client_min_messages;
BEGIN;
SELECT protect_api_keys('clients', algorithm => 'bcrypt');
ROLLBACK;
ALTER TABLE public.clients ADD COLUMN api_key_hash text COLLATE "C";
CREATE UNIQUE INDEX CONCURRENTLY ON public.clients (api_key_hash);
SELECT protect_api_keys('clients');
DROP TABLE clients;
