-- ON CONFLICT: a key that EXCLUDED has lost already is never lost in silence
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

SET client_min_messages = warning;
CREATE TABLE clients (id integer PRIMARY KEY, name text, api_key text);
SELECT protect_api_keys('clients');
CREATE FUNCTION probe.owner(key text) RETURNS SETOF text LANGUAGE sql AS $$ SELECT id || ' ' || name FROM clients WHERE verify_api_key(key, api_key_hash) ORDER BY id $$;
INSERT INTO clients VALUES (1, 'one', 'key-1'), (2, 'two', 'key-2');

-- what works
INSERT INTO clients VALUES (1, 'uno', 'key-1b') ON CONFLICT (id) DO NOTHING;
SELECT probe.owner('key-1');
INSERT INTO clients VALUES (3, 'three', 'key-1') ON CONFLICT DO NOTHING;
INSERT INTO clients VALUES (3, 'three', 'key-1') ON CONFLICT (api_key_hash) DO NOTHING;
SELECT probe.owner('key-1');
INSERT INTO clients VALUES (1, 'uno', 'key-1b') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, api_key_hash = EXCLUDED.api_key_hash;
SELECT probe.owner('key-1b');
SELECT probe.owner('key-1');
INSERT INTO clients VALUES (9, 'nine', 'key-2') ON CONFLICT (api_key_hash) DO UPDATE SET name = EXCLUDED.name;
SELECT probe.owner('key-2');
INSERT INTO clients VALUES (1, 'ein', 'key-1c') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name;
SELECT probe.owner('key-1b');
-- a key that does not come from EXCLUDED is hashed
INSERT INTO clients VALUES (1, 'un', 'key-1c') ON CONFLICT (id) DO UPDATE SET api_key = 'key-1d';
SELECT probe.owner('key-1d');
-- no conflict, no trouble
INSERT INTO clients VALUES (3, 'three', 'key-3') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
SELECT probe.owner('key-3');
-- the same key once more loses nothing
INSERT INTO clients VALUES (3, 'trois', 'key-3') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, api_key = EXCLUDED.api_key;
SELECT probe.owner('key-3');
-- a row without a key changes no hash
INSERT INTO clients VALUES (3, 'drei', NULL) ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, api_key = EXCLUDED.api_key;
SELECT probe.owner('key-3');
-- what an ORM writes: every column from EXCLUDED
INSERT INTO clients VALUES (3, 'tri', 'key-3b') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, api_key = EXCLUDED.api_key, api_key_hash = EXCLUDED.api_key_hash;
SELECT probe.owner('key-3b');

-- what would lose the new key
INSERT INTO clients VALUES (1, 'eins', 'key-1e') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
SELECT probe.answer('INSERT INTO clients VALUES (1, ''eins'', $1) ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key', 'marker_1');
INSERT INTO clients VALUES (1, 'eins', 'key-1e') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, api_key = EXCLUDED.api_key;
INSERT INTO clients VALUES (1, 'eins', 'key-1e') ON CONFLICT (id) DO UPDATE SET (name, api_key) = (EXCLUDED.name, EXCLUDED.api_key);
INSERT INTO clients VALUES (1, 'eins', 'key-1e') ON CONFLICT (id) DO UPDATE SET (name, api_key) = (SELECT EXCLUDED.name, EXCLUDED.api_key);
INSERT INTO clients VALUES (1, 'eins', 'key-1e') ON CONFLICT (id) DO UPDATE SET api_key = coalesce(EXCLUDED.api_key, clients.api_key);
INSERT INTO clients VALUES (1, 'eins', 'key-1e') ON CONFLICT ON CONSTRAINT clients_pkey DO UPDATE SET api_key = EXCLUDED.api_key WHERE clients.id = 1;
INSERT INTO clients SELECT 1, 'eins', 'key-1e' ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
INSERT INTO clients VALUES (4, 'four', 'key-4'), (1, 'eins', 'key-1e'), (5, 'five', 'key-5') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
WITH done AS (INSERT INTO clients VALUES (1, 'eins', 'key-1e') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key RETURNING id) TABLE done;
SELECT probe.owner('key-1d');
-- a row without a hash is such a row too
INSERT INTO clients VALUES (6, 'six', NULL);
INSERT INTO clients VALUES (6, 'six', 'key-6') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
-- after an error in a savepoint, the working form works
BEGIN;
SAVEPOINT here;
INSERT INTO clients VALUES (6, 'six', 'key-6') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
ROLLBACK TO here;
UPDATE clients SET api_key = NULL WHERE id = 2;
INSERT INTO clients VALUES (6, 'six', 'key-6') ON CONFLICT (id) DO UPDATE SET api_key_hash = EXCLUDED.api_key_hash;
COMMIT;
SELECT probe.owner('key-6');
SELECT probe.owner('key-2');

-- commands that only look like it
BEGIN;
INSERT INTO clients VALUES (1, 'eins', 'key-7') ON CONFLICT DO NOTHING;
UPDATE clients SET api_key = NULL WHERE id = 1;
COMMIT;
WITH one AS (INSERT INTO clients VALUES (7, 'seven', 'key-7') RETURNING id) UPDATE clients SET api_key = NULL WHERE id = 1;
WITH one AS (UPDATE clients SET api_key = NULL WHERE id = 1 RETURNING id), two AS (INSERT INTO clients VALUES (8, 'eight', 'key-8') RETURNING id) SELECT (SELECT id FROM two), (SELECT id FROM one);
WITH two AS (INSERT INTO clients VALUES (9, 'nine', 'key-9') RETURNING id) UPDATE clients SET api_key = NULL FROM two WHERE clients.id = 1;
SELECT probe.owner('key-1d'), probe.owner('key-7'), probe.owner('key-8'), probe.owner('key-9');
DO $$ BEGIN INSERT INTO clients VALUES (1, 'eins', 'key-10') ON CONFLICT DO NOTHING; UPDATE clients SET api_key = NULL WHERE id = 1; END $$;
PREPARE clear AS UPDATE clients SET api_key = NULL WHERE id = 1;
INSERT INTO clients VALUES (1, 'eins', 'key-10') ON CONFLICT DO NOTHING;
EXECUTE clear;
DEALLOCATE clear;
-- a limit: beside an insert that did nothing, in one and the same command, an update may not clear a key
WITH one AS (INSERT INTO clients VALUES (1, 'eins', 'key-10') ON CONFLICT DO NOTHING RETURNING id) UPDATE clients SET api_key = NULL WHERE id = 1 AND (SELECT count(*) FROM one) = 0;

-- other triggers in between, which run commands of their own
CREATE TABLE log (line text);
CREATE FUNCTION write_log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (NEW.name); PERFORM count(*) FROM log; RETURN NEW; END $$;
CREATE TRIGGER log_it BEFORE INSERT OR UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION write_log();
INSERT INTO clients VALUES (1, 'eins', 'key-1e') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
INSERT INTO clients VALUES (1, 'eins', 'key-1f') ON CONFLICT (id) DO UPDATE SET api_key_hash = EXCLUDED.api_key_hash;
SELECT probe.owner('key-1f');
INSERT INTO clients VALUES (20, 'a', 'key-20'), (1, 'eins', 'key-1e') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
-- a trigger that itself upserts
CREATE TABLE mirror (id integer PRIMARY KEY, name text, api_key text);
SELECT protect_api_keys('mirror');
CREATE FUNCTION mirror_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO mirror VALUES (NEW.id, NEW.name, 'mirrored-' || NEW.id) ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name, api_key_hash = EXCLUDED.api_key_hash; RETURN NEW; END $$;
CREATE TRIGGER mirror_it BEFORE INSERT OR UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION mirror_it();
INSERT INTO clients VALUES (1, 'eins', 'key-1e') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
INSERT INTO clients VALUES (1, 'eins', 'key-1g') ON CONFLICT (id) DO UPDATE SET api_key_hash = EXCLUDED.api_key_hash;
SELECT probe.owner('key-1g');
SELECT id, api_key, verify_api_key('mirrored-1', api_key_hash) FROM mirror;
DROP TABLE clients, mirror, log;
DROP FUNCTION write_log, mirror_it;

-- a table with a tag
CREATE TABLE clients (id integer PRIMARY KEY, name text, api_key text);
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 4);
INSERT INTO clients VALUES (1, 'one', 'key-1');
INSERT INTO clients VALUES (1, 'one', 'key-1b') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
INSERT INTO clients VALUES (1, 'one', 'key-1b') ON CONFLICT (id) DO UPDATE SET api_key_hash = EXCLUDED.api_key_hash, api_key_tag = EXCLUDED.api_key_tag;
SELECT probe.owner('key-1b');
SELECT api_key_tag = api_key_tag('key-1b') FROM clients;
DROP TABLE clients;

-- names that have to be quoted, in the hint
CREATE TABLE clients (id integer PRIMARY KEY, name text, "API Key" text);
SELECT protect_api_keys('clients', 'API Key', 'Its "hash"');
INSERT INTO clients VALUES (1, 'one', 'key-1');
INSERT INTO clients VALUES (1, 'one', 'key-1b') ON CONFLICT (id) DO UPDATE SET "API Key" = EXCLUDED."API Key";
DROP TABLE clients;

-- one who may write keys without reading hashes
CREATE TABLE clients (id integer PRIMARY KEY, name text, api_key text);
SELECT protect_api_keys('clients');
CREATE ROLE regress_writer;
GRANT SELECT (id, name, api_key), INSERT (id, name, api_key), UPDATE (name, api_key) ON clients TO regress_writer;
SET ROLE regress_writer;
INSERT INTO clients VALUES (1, 'one', 'key-1');
INSERT INTO clients VALUES (1, 'one', 'key-1b') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
MERGE INTO clients AS c USING (VALUES (2, 'two', 'key-2'), (1, 'one', NULL)) AS n (id, name, api_key) ON c.id = n.id
    WHEN MATCHED THEN UPDATE SET api_key = n.api_key
    WHEN NOT MATCHED THEN INSERT (id, name, api_key) VALUES (n.id, n.name, n.api_key);
SELECT current_user;
SELECT api_key_hash FROM clients;
RESET ROLE;
SELECT probe.owner('key-1'), probe.owner('key-2');
-- row security that hides the other rows, from the owner too
ALTER TABLE clients ENABLE ROW LEVEL SECURITY;
ALTER TABLE clients FORCE ROW LEVEL SECURITY;
ALTER TABLE clients OWNER TO regress_writer;
CREATE POLICY mine ON clients FOR SELECT USING (id = 1);
CREATE POLICY add ON clients FOR INSERT WITH CHECK (true);
CREATE POLICY change ON clients FOR UPDATE USING (true);
SET ROLE regress_writer;
MERGE INTO clients AS c USING (VALUES (3, 'three', 'key-3'), (1, 'one', NULL)) AS n (id, name, api_key) ON c.id = n.id
    WHEN MATCHED THEN UPDATE SET api_key = n.api_key
    WHEN NOT MATCHED THEN INSERT (id, name, api_key) VALUES (n.id, n.name, n.api_key);
SELECT id FROM clients;
INSERT INTO clients VALUES (1, 'one', 'key-1b') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
RESET ROLE;
SELECT probe.owner('key-3');
DROP TABLE clients;
DROP ROLE regress_writer;
DROP FUNCTION probe.owner;
RESET client_min_messages;
