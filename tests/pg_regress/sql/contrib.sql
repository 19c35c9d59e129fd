-- beside pgcrypto and citext, where the server has them
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
SELECT count(*) < 2 AS lacking FROM pg_available_extensions WHERE name IN ('pgcrypto', 'citext') \gset
\if :lacking
\echo no contrib modules here
\quit
\endif
CREATE SCHEMA contrib;
CREATE EXTENSION pgcrypto SCHEMA contrib;
CREATE EXTENSION citext SCHEMA contrib;

-- SHA-256, as the seeds' plpgsql wrote it
SELECT hash_api_key('sk_live_4eC39HqLyjWDarjtT1zdp7dc') = encode(contrib.digest('sk_live_4eC39HqLyjWDarjtT1zdp7dc', 'sha256'), 'hex');
-- bcrypt, both ways and through all three names
SELECT bool_and(verify_api_key(key, contrib.crypt(key, contrib.gen_salt('bf', 4)))) FROM unnest(ARRAY['a', 'abc', repeat('k', 71), repeat('k', 72), 'k\y$1', '~!@#%^&*()']) AS key;
SELECT bool_and(contrib.crypt(key, hash) = hash) FROM (SELECT key, hash_api_key(key, 'bcrypt', 4) AS hash FROM unnest(ARRAY['a', 'abc', repeat('k', 71), repeat('k', 72), 'k\y$1', '~!@#%^&*()']) AS key) AS made;
SELECT bool_or(verify_api_key(key || 'x', contrib.crypt(key, contrib.gen_salt('bf', 4)))) FROM unnest(ARRAY['a', 'abc']) AS key;
SELECT bool_and(verify_api_key('abc', overlay(contrib.crypt('abc', contrib.gen_salt('bf', 4)) PLACING name FROM 1 FOR 4))) FROM unnest(ARRAY['$2a$', '$2b$', '$2y$']) AS name;
-- a foreign hash of a key above 72 bytes verifies as pgcrypto verifies it
SELECT verify_api_key(repeat('k', 100), contrib.crypt(repeat('k', 100), contrib.gen_salt('bf', 4)));
-- pgcrypto's other kinds of salt are no hashes of ours
SELECT verify_api_key('abc', contrib.crypt('abc', contrib.gen_salt('md5'))), verify_api_key('abc', contrib.crypt('abc', contrib.gen_salt('des'))), verify_api_key('abc', contrib.crypt('abc', contrib.gen_salt('xdes')));

-- a table whose keys were hashed with pgcrypto is protected, and its hashes go on verifying
CREATE TABLE clients (id integer PRIMARY KEY, api_key text, api_key_hash text);
INSERT INTO clients VALUES (1, NULL, contrib.crypt('key-1', contrib.gen_salt('bf', 4))), (2, 'key-2', contrib.crypt('key-2', contrib.gen_salt('bf', 5))), (3, 'key-3', NULL);
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 4);
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
SELECT id, api_key IS NULL, left(api_key_hash, 7), api_key_tag, verify_api_key('key-' || id, api_key_hash) FROM clients ORDER BY id;
SELECT id FROM clients WHERE api_key_tag = api_key_tag('key-2') AND verify_api_key('key-2', api_key_hash);
DROP TABLE clients;

-- citext as the type of the key
CREATE TABLE clients (id integer PRIMARY KEY, api_key contrib.citext);
INSERT INTO clients VALUES (1, 'Old-Key');
SELECT protect_api_keys('clients');
INSERT INTO clients VALUES (2, 'New-Key');
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
SELECT id, api_key, api_key_hash = hash_api_key(CASE id WHEN 1 THEN 'Old-Key' ELSE 'New-Key' END) FROM clients ORDER BY id;
SELECT probe.answer('INSERT INTO clients VALUES (3, $1::contrib.citext)', 'marker 1');
SELECT id FROM clients WHERE api_key_hash = hash_api_key('New-Key');
SELECT id FROM clients WHERE api_key_hash = hash_api_key('new-key');
-- upsert detection with citext in both columns
INSERT INTO clients VALUES (2, 'Newer-Key') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
DROP TABLE clients;
-- a domain over citext
CREATE DOMAIN contrib.loose_key AS contrib.citext CHECK (VALUE ~ '^k');
CREATE TABLE clients (id integer PRIMARY KEY, api_key contrib.loose_key, api_key_hash contrib.citext);
SELECT protect_api_keys('clients');
INSERT INTO clients VALUES (1, 'kEy');
SELECT id, api_key, api_key_hash = hash_api_key('kEy') FROM clients;
INSERT INTO clients VALUES (1, 'kEz') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
INSERT INTO clients VALUES (1, 'kEz') ON CONFLICT (id) DO UPDATE SET api_key_hash = EXCLUDED.api_key_hash;
SELECT id, api_key, api_key_hash = hash_api_key('kEz') FROM clients;
DROP TABLE clients;

-- many at once are what pgcrypto verifies
SELECT count(*), bool_and(contrib.crypt('key-' || n, hash) = hash) FROM unnest(hash_api_keys((SELECT array_agg('key-' || n ORDER BY n) FROM generate_series(1, 13) AS n), 'bcrypt', 4, 2)) WITH ORDINALITY AS h (hash, n);
SELECT bool_and(hash = encode(contrib.digest('key-' || n, 'sha256'), 'hex')) FROM unnest(hash_api_keys((SELECT array_agg('key-' || n ORDER BY n) FROM generate_series(1, 13) AS n), 'sha256')) WITH ORDINALITY AS h (hash, n);

-- a migration with citext: keys that differ in letter case only are two keys
SET client_min_messages = warning;
CREATE TABLE clients (id integer, api_key contrib.citext);
INSERT INTO clients VALUES (1, 'key-A'), (2, 'key-a'), (3, 'key-A'), (4, 'not a key');
SELECT finding, keys FROM check_api_keys('clients');
SELECT protect_api_keys('clients');
CALL migrate_api_keys('clients');
SELECT id, api_key, api_key_hash = hash_api_key('key-A'), api_key_hash = hash_api_key('key-a') FROM clients ORDER BY id;
DROP TABLE clients;
CREATE TABLE clients (id integer, api_key contrib.citext, api_key_hash contrib.citext);
INSERT INTO clients VALUES (1, 'key-A', NULL), (2, 'key-a', NULL), (3, 'key-A', contrib.crypt('key-A', contrib.gen_salt('bf', 4))), (4, 'key-A', contrib.crypt('key-B', contrib.gen_salt('bf', 4)));
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 4);
CALL migrate_api_keys('clients');
SELECT id, api_key, verify_api_key('key-A', api_key_hash::text), verify_api_key('key-a', api_key_hash::text) FROM clients ORDER BY id;
DROP TABLE clients;
RESET client_min_messages;
DROP SCHEMA contrib CASCADE;
