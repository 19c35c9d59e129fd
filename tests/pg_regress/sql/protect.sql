-- protect_api_keys, unprotect_api_keys, api_key_status
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
CREATE FUNCTION probe.triggers(target regclass) RETURNS TABLE (name name, enabled "char", definition text) LANGUAGE sql AS $$
    SELECT tgname, tgenabled, regexp_replace(pg_get_triggerdef(oid), '^CREATE TRIGGER \S+ ', '') FROM pg_trigger WHERE tgrelid = target AND NOT tgisinternal ORDER BY tgname COLLATE "C"
$$;
CREATE FUNCTION probe.indexes(target regclass) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = target ORDER BY indexrelid::regclass::text COLLATE "C"
$$;

-- one line protects a table
CREATE TABLE clients (id integer PRIMARY KEY, name text, api_key text);
INSERT INTO clients VALUES (1, 'one', 'key-1'), (2, 'two', 'key-2'), (3, 'three', NULL);
SELECT protect_api_keys('clients');
SELECT * FROM probe.triggers('clients');
SELECT * FROM probe.indexes('clients');
SELECT attname, format_type(atttypid, atttypmod), attcollation::regcollation, attnotnull FROM pg_attribute WHERE attrelid = 'clients'::regclass AND attnum > 3;
-- it touches no row
TABLE clients ORDER BY id;
SELECT * FROM api_key_status;
INSERT INTO clients VALUES (4, 'four', 'key-4');
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
SELECT id, name, api_key, api_key_hash = hash_api_key('key-' || id) FROM clients ORDER BY id;
SELECT * FROM api_key_status;
SELECT name FROM clients WHERE api_key_hash = hash_api_key('key-4');

-- a second call changes nothing
CREATE TABLE probe.before AS SELECT * FROM (SELECT oid, xmin::text AS version FROM pg_trigger WHERE tgrelid = 'clients'::regclass UNION ALL SELECT indexrelid, xmin::text AS version FROM pg_index WHERE indrelid = 'clients'::regclass) AS catalog;
SELECT protect_api_keys('clients');
SELECT protect_api_keys('clients', 'api_key', 'api_key_hash', 'sha256', 12, 8);
SELECT count(*) FROM (TABLE probe.before EXCEPT (SELECT oid, xmin::text AS version FROM pg_trigger WHERE tgrelid = 'clients'::regclass UNION ALL SELECT indexrelid, xmin::text AS version FROM pg_index WHERE indrelid = 'clients'::regclass)) AS changed;
DROP TABLE probe.before;

-- other arguments re-hash nothing, and say what changes
CREATE TABLE probe.hashes AS SELECT id, api_key_hash FROM clients;
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 4);
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 4);
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 5);
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 5, tag_bits => 12);
SELECT * FROM api_key_status;
SELECT count(*) FROM clients JOIN probe.hashes USING (id, api_key_hash);
INSERT INTO clients VALUES (5, 'five', 'key-5');
SELECT api_key, left(api_key_hash, 7), verify_api_key('key-5', api_key_hash), api_key_tag = api_key_tag('key-5', 12) FROM clients WHERE id = 5;
-- tags that exist can't be made anew
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 5, tag_bits => 16);
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 4, tag_bits => 12);
SELECT protect_api_keys('clients');
SELECT * FROM api_key_status;
SELECT id, verify_api_key('key-' || id, api_key_hash) FROM clients ORDER BY id;
DROP TABLE probe.hashes;
-- tags that bcrypt hashes need go on being written beside the others
UPDATE clients SET api_key = 'key-5b' WHERE id = 5;
SELECT api_key, api_key_hash = hash_api_key('key-5b'), api_key_tag = api_key_tag('key-5b', 12) FROM clients WHERE id = 5;
-- other columns need a decision first
SELECT protect_api_keys('clients', 'name');
SELECT protect_api_keys('clients', hash_column => 'digest');

-- what somebody has weakened is put right
ALTER TABLE clients DISABLE TRIGGER "!pg_api_key_first";
SELECT protected_table, triggers_in_force FROM api_key_status;
SELECT protect_api_keys('clients');
ALTER TABLE clients ENABLE TRIGGER ALL;
SELECT name, enabled FROM probe.triggers('clients');
SELECT protected_table, triggers_in_force FROM api_key_status;
SELECT protect_api_keys('clients');
SELECT name, enabled FROM probe.triggers('clients');
DROP TRIGGER "~pg_api_key_last" ON clients;
SELECT protected_table, triggers_in_force FROM api_key_status;
SELECT protect_api_keys('clients');
CREATE OR REPLACE TRIGGER "~pg_api_key_last" BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('api_key', 'api_key_hash', 'sha256', '10', '', '16');
SELECT protected_table, triggers_in_force FROM api_key_status;
SELECT protect_api_keys('clients');
DROP TRIGGER "!pg_api_key_first" ON clients;
SELECT protected_table, triggers_in_force FROM api_key_status;
SELECT protect_api_keys('clients');
SELECT protected_table, triggers_in_force FROM api_key_status;
DROP INDEX clients_api_key_hash_idx;
SELECT protect_api_keys('clients');
SELECT * FROM probe.indexes('clients');

-- and without triggers again
SELECT unprotect_api_keys('clients');
SELECT unprotect_api_keys('clients');
SELECT unprotect_api_keys(NULL);
-- whatever else is protected
CREATE TABLE other (api_key text);
SELECT protect_api_keys('other');
SELECT unprotect_api_keys('clients');
DROP TABLE other;
SELECT count(*) FROM probe.triggers('clients');
TABLE api_key_status;
SELECT id, verify_api_key('key-' || id, api_key_hash) FROM clients WHERE id < 5 ORDER BY id;
INSERT INTO clients VALUES (6, 'six', 'key-6');
SELECT api_key, api_key_hash FROM clients WHERE id = 6;
SELECT protect_api_keys('clients');
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
SELECT api_key, api_key_hash = hash_api_key('key-6') FROM clients WHERE id = 6;
DROP TABLE clients;

-- bcrypt from the start: a tag beside the hash, both indexed
CREATE TABLE clients (id integer PRIMARY KEY, api_key text);
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 4);
SELECT * FROM probe.indexes('clients');
SELECT * FROM probe.triggers('clients');
INSERT INTO clients SELECT n, 'key-' || n FROM generate_series(1, 20) AS n;
SELECT count(*), count(api_key), count(DISTINCT left(api_key_hash, 7)), bool_and(api_key_tag = api_key_tag('key-' || id)) FROM clients;
SELECT id FROM clients WHERE api_key_tag = api_key_tag('key-7') AND verify_api_key('key-7', api_key_hash);
SELECT * FROM api_key_status;
DROP TABLE clients;

-- columns of one's own
CREATE TABLE internal_services (name text PRIMARY KEY, secret varchar(80), digest char(64));
INSERT INTO internal_services VALUES ('a', 'old', NULL);
SELECT protect_api_keys('internal_services', 'secret', 'digest');
SELECT * FROM probe.indexes('internal_services');
INSERT INTO internal_services VALUES ('b', 'new', NULL);
UPDATE internal_services SET secret = secret;
SELECT name, secret, digest = hash_api_key(CASE name WHEN 'a' THEN 'old' ELSE 'new' END), octet_length(digest) FROM internal_services ORDER BY name;
DROP TABLE internal_services;

-- an index that is there is used
CREATE TABLE clients (id integer PRIMARY KEY, api_key text, api_key_hash text UNIQUE);
SELECT protect_api_keys('clients');
SELECT * FROM probe.indexes('clients');
DROP TABLE clients;
CREATE TABLE clients (id integer PRIMARY KEY, api_key text, api_key_hash text);
CREATE UNIQUE INDEX CONCURRENTLY clients_hash ON clients (api_key_hash) WHERE api_key_hash IS NOT NULL;
SELECT protect_api_keys('clients');
SELECT * FROM probe.indexes('clients');
DROP TABLE clients;
-- one that does not fit is not
CREATE TABLE clients (id integer PRIMARY KEY, api_key text, api_key_hash text);
CREATE INDEX not_unique ON clients (api_key_hash);
CREATE UNIQUE INDEX two_columns ON clients (api_key_hash, id);
CREATE UNIQUE INDEX partial ON clients (api_key_hash) WHERE id > 100;
CREATE UNIQUE INDEX expression ON clients (lower(api_key_hash));
CREATE INDEX hashed ON clients USING hash (api_key_hash);
SELECT protect_api_keys('clients');
SELECT * FROM probe.indexes('clients');
DROP TABLE clients;

-- a trigger attached by hand does no harm beside the three, and goes with them
CREATE TABLE clients (id integer PRIMARY KEY, api_key text, api_key_hash text UNIQUE);
CREATE TRIGGER by_hand BEFORE INSERT OR UPDATE ON clients FOR EACH ROW WHEN (NEW.api_key IS NOT NULL) EXECUTE FUNCTION hash_api_key_trigger('api_key', 'api_key_hash');
INSERT INTO clients VALUES (1, 'key-1');
SELECT id, api_key, api_key_hash = hash_api_key('key-1') FROM clients;
SELECT protect_api_keys('clients');
SELECT name FROM probe.triggers('clients');
SELECT unprotect_api_keys('clients');
SELECT name FROM probe.triggers('clients');
DROP TABLE clients;

-- temporary and unlogged tables
CREATE TEMP TABLE passing (id integer, api_key text);
SELECT protect_api_keys('passing');
INSERT INTO passing VALUES (1, 'key-1');
SELECT id, api_key, api_key_hash = hash_api_key('key-1') FROM passing;
INSERT INTO passing VALUES (2, 'key-2') ON CONFLICT DO NOTHING;
SELECT key_column, plaintext, hashed FROM api_key_status;
DROP TABLE passing;
CREATE UNLOGGED TABLE passing (id integer, api_key text);
SELECT protect_api_keys('passing');
INSERT INTO passing VALUES (1, 'key-1');
SELECT id, api_key, api_key_hash = hash_api_key('key-1') FROM passing;
DROP TABLE passing;

-- no table to protect
SELECT protect_api_keys('no_such_table');
SELECT protect_api_keys(NULL);
SELECT protect_api_keys('pg_class', NULL);
SELECT protect_api_keys(0::regclass);
SELECT protect_api_keys('pg_class');
CREATE TABLE clients (id integer PRIMARY KEY, api_key text);
SELECT protect_api_keys('clients', algorithm => 'md5');
SELECT protect_api_keys('clients', algorithm => 'hmac-sha256');
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 3);
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 15);
SELECT protect_api_keys('clients', algorithm => 'bcrypt', tag_bits => 32);
SELECT protect_api_keys('clients', algorithm => 'bcrypt', tag_bits => -1);
SELECT protect_api_keys('clients', cost => NULL);
CREATE VIEW client_view AS SELECT * FROM clients;
SELECT protect_api_keys('client_view');
CREATE MATERIALIZED VIEW client_copy AS SELECT * FROM clients;
SELECT protect_api_keys('client_copy');
CREATE SEQUENCE client_numbers;
SELECT protect_api_keys('client_numbers');
SELECT protect_api_keys('clients_pkey');
-- none of these left a trace
SELECT attname FROM pg_attribute WHERE attrelid = 'clients'::regclass AND attnum > 0 ORDER BY attnum;
SELECT count(*) FROM probe.triggers('clients');
DROP SEQUENCE client_numbers;
DROP TABLE clients CASCADE;

-- the trigger, attached by hand and wrongly
CREATE TABLE clients (id integer, api_key text, api_key_hash text, tag text);
SELECT hash_api_key_trigger();
CREATE TRIGGER wrong BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger();
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
CREATE OR REPLACE TRIGGER wrong BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('api_key');
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
CREATE OR REPLACE TRIGGER wrong BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('api_key', 'nowhere');
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
CREATE OR REPLACE TRIGGER wrong BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('api_key', 'ctid');
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
CREATE OR REPLACE TRIGGER wrong BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('api_key', 'id');
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
CREATE OR REPLACE TRIGGER wrong BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('id', 'api_key_hash');
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
CREATE OR REPLACE TRIGGER wrong BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('api_key', 'api_key_hash', 'md5');
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
CREATE OR REPLACE TRIGGER wrong BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('api_key', 'api_key_hash', 'bcrypt', 'ten');
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
CREATE OR REPLACE TRIGGER wrong BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('api_key', 'api_key_hash', 'bcrypt', 4, 'tag');
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
CREATE OR REPLACE TRIGGER wrong BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('api_key', 'api_key_hash', 'bcrypt', 4, 'id', '99');
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
CREATE OR REPLACE TRIGGER wrong AFTER INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('api_key', 'api_key_hash');
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
DROP TRIGGER wrong ON clients;
CREATE TRIGGER wrong BEFORE INSERT ON clients EXECUTE FUNCTION hash_api_key_trigger('api_key', 'api_key_hash');
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
DROP TRIGGER wrong ON clients;
CREATE TRIGGER wrong BEFORE DELETE ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('api_key', 'api_key_hash');
INSERT INTO clients VALUES (1);
DELETE FROM clients;
DROP TABLE clients;

-- a renamed column: writes are refused until the table is protected anew
CREATE TABLE clients (id integer, api_key text);
SELECT protect_api_keys('clients');
ALTER TABLE clients RENAME COLUMN api_key TO token;
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
INSERT INTO clients VALUES (1);
SELECT protect_api_keys('clients', 'token');
SELECT unprotect_api_keys('clients');
SELECT protect_api_keys('clients', 'token');
INSERT INTO clients VALUES (2, 'key-2');
SELECT id, token, api_key_hash = hash_api_key('key-2') FROM clients ORDER BY id;
DROP TABLE clients;

-- the view stands whatever has become of a table since
CREATE TABLE clients (id integer, api_key text);
SELECT protect_api_keys('clients');
ALTER TABLE clients RENAME COLUMN api_key TO old_key;
SELECT protected_table, key_column, plaintext, hashed FROM api_key_status;
ALTER TABLE clients RENAME COLUMN old_key TO api_key;
ALTER TABLE clients DROP COLUMN api_key_hash;
SELECT protected_table, key_column, plaintext, hashed FROM api_key_status;
SELECT protect_api_keys('clients');
SELECT protected_table, key_column, plaintext, hashed FROM api_key_status;
CREATE OR REPLACE TRIGGER "!pg_api_key_first" BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('a', 'b', 'bcrypt', 'ten', 'c', 'sixteen');
SELECT * FROM api_key_status;
CREATE OR REPLACE TRIGGER "!pg_api_key_first" BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('a', 'b', 'bcrypt', '99999999999', 'c', '-1');
SELECT * FROM api_key_status;
CREATE OR REPLACE TRIGGER "!pg_api_key_first" BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger();
SELECT * FROM api_key_status;
DROP TABLE clients;
