-- find_by_api_key: the row of a key, whatever the table
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
SET client_min_messages = error;

-- plaintext, then hashed; with keys of the primary kind of every type
CREATE TABLE by_integer (id integer PRIMARY KEY, name text, api_key text UNIQUE);
CREATE TABLE by_text (id text PRIMARY KEY, api_key varchar(80));
CREATE TABLE by_uuid (id uuid PRIMARY KEY, dropped integer, api_key char(40), added jsonb);
INSERT INTO by_integer SELECT n, 'client ' || n, 'key-' || n FROM generate_series(1, 100) AS n;
INSERT INTO by_text SELECT 'client ' || n, 'key-' || n FROM generate_series(1, 100) AS n;
INSERT INTO by_uuid SELECT md5(n::text)::uuid, n, 'key-' || n FROM generate_series(1, 100) AS n;
ALTER TABLE by_uuid DROP COLUMN dropped;
SELECT probe.answer('SELECT * FROM find_by_api_key(NULL::by_integer, $1)', 'key-7');
SELECT protect_api_keys('by_integer'), protect_api_keys('by_text', algorithm => 'bcrypt', cost => 4), protect_api_keys('by_uuid');
SELECT * FROM find_by_api_key(NULL::by_integer, 'key-7');
SELECT id FROM find_by_api_key(NULL::by_text, 'key-7');
SELECT id, added IS NULL FROM find_by_api_key(NULL::by_uuid, 'key-7');
CALL migrate_api_keys('by_integer');
CALL migrate_api_keys('by_text');
CALL migrate_api_keys('by_uuid');
SELECT id, name, api_key, api_key_hash = hash_api_key('key-7') FROM find_by_api_key(NULL::by_integer, 'key-7');
SELECT id, api_key FROM find_by_api_key(NULL::by_text, 'key-7');
SELECT id = md5('7')::uuid FROM find_by_api_key(NULL::by_uuid, 'key-7');
SELECT (found).id FROM (SELECT find_by_api_key(NULL::by_integer, 'key-8') AS found) AS one;
SELECT k, found.id FROM unnest(ARRAY['key-1', 'nobody', 'key-3']) AS k LEFT JOIN LATERAL find_by_api_key(NULL::by_integer, k) AS found ON true ORDER BY 1;

-- what is no key finds nothing, and is no error
SELECT count(*) FROM find_by_api_key(NULL::by_integer, NULL);
SELECT count(*) FROM find_by_api_key(NULL::by_integer, '');
SELECT count(*) FROM find_by_api_key(NULL::by_integer, 'key-7 ');
SELECT count(*) FROM find_by_api_key(NULL::by_integer, E'key-7\n');
SELECT count(*) FROM find_by_api_key(NULL::by_integer, repeat('k', 1025));
SELECT count(*) FROM find_by_api_key(NULL::by_text, 'clé');
-- the stored hash is no credential
SELECT count(*) FROM by_integer AS t, LATERAL find_by_api_key(NULL::by_integer, t.api_key_hash);
SELECT count(*) FROM by_text AS t, LATERAL find_by_api_key(NULL::by_text, t.api_key_hash);
-- one index probe
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM by_integer WHERE api_key_hash = hash_api_key('key-7');
RESET enable_seqscan;
RESET enable_bitmapscan;
SELECT string_agg(line, E'\n') FROM (SELECT regexp_replace(query, '^.* FROM ', '') AS line FROM api_key_lookup('by_text')) AS q;

-- a key that can't be hashed works on in plaintext
ALTER TABLE by_integer DISABLE TRIGGER USER;
INSERT INTO by_integer VALUES (101, 'odd', 'odd key'), (102, 'plain', 'plain-key');
SELECT protect_api_keys('by_integer');
SELECT id FROM find_by_api_key(NULL::by_integer, 'odd key');
SELECT id FROM find_by_api_key(NULL::by_integer, 'plain-key');
SELECT id FROM find_by_api_key(NULL::by_integer, 'key-7');
SELECT id FROM find_by_api_key(NULL::by_integer, 'ODD KEY');
-- plaintext is looked for only where no hash is found: a second row with the key does not come between
ALTER TABLE by_integer DISABLE TRIGGER USER;
INSERT INTO by_integer VALUES (103, 'twin', 'key-7');
SELECT protect_api_keys('by_integer');
SELECT id FROM find_by_api_key(NULL::by_integer, 'key-7');
UPDATE by_integer SET api_key_hash = NULL WHERE id = 7;
SELECT id FROM find_by_api_key(NULL::by_integer, 'key-7');
DELETE FROM by_integer WHERE id = 103;

-- the plan goes with what it was made for
SELECT protect_api_keys('by_integer', algorithm => 'bcrypt', cost => 4);
UPDATE by_integer SET api_key = 'key-8b' WHERE id = 8;
SELECT id FROM find_by_api_key(NULL::by_integer, 'key-8b');
SELECT id FROM find_by_api_key(NULL::by_integer, 'key-9');
SELECT protect_api_keys('by_integer');
UPDATE by_integer SET api_key = 'key-9b' WHERE id = 9;
SELECT id FROM find_by_api_key(NULL::by_integer, 'key-8b');
SELECT id FROM find_by_api_key(NULL::by_integer, 'key-9b');
ALTER TABLE by_integer ADD COLUMN email text DEFAULT 'x@example.org', DROP COLUMN name;
SELECT id, email FROM find_by_api_key(NULL::by_integer, 'key-9b');
ALTER TABLE by_integer RENAME TO renamed;
SELECT id FROM find_by_api_key(NULL::renamed, 'key-9b');
SELECT unprotect_api_keys('renamed');
SELECT probe.answer('SELECT id FROM find_by_api_key(NULL::renamed, $1)', 'key-9b');
SELECT protect_api_keys('renamed');
SELECT id FROM find_by_api_key(NULL::renamed, 'key-9b');

-- partitions, and views that show the hash column
CREATE TABLE parts (id integer, region text, api_key text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
CREATE TABLE parts_us (api_key text, region text NOT NULL, id integer NOT NULL);
ALTER TABLE parts ATTACH PARTITION parts_us FOR VALUES IN ('us');
INSERT INTO parts VALUES (1, 'eu', 'key-eu'), (2, 'us', 'key-us');
SELECT protect_api_keys('parts');
SELECT id, region FROM find_by_api_key(NULL::parts, 'key-us');
CALL migrate_api_keys('parts');
SELECT id, region, api_key FROM find_by_api_key(NULL::parts, 'key-us');
SELECT id, region FROM find_by_api_key(NULL::parts_us, 'key-us');
SELECT count(*) FROM find_by_api_key(NULL::parts_eu, 'key-us');
CREATE VIEW shown AS SELECT region, api_key_hash, id FROM parts WHERE id < 2;
SELECT region, id FROM find_by_api_key(NULL::shown, 'key-eu');
SELECT count(*) FROM find_by_api_key(NULL::shown, 'key-us');
CREATE VIEW hidden AS SELECT id FROM parts;
SELECT probe.answer('SELECT id FROM find_by_api_key(NULL::hidden, $1)', 'key-eu');
-- the same salted key twice is two rows, as SQL would say
UPDATE by_text SET api_key = 'shared' WHERE id IN ('client 1', 'client 2');
SELECT count(*) FROM find_by_api_key(NULL::by_text, 'shared');

-- "none left in plaintext" is believed only as long as it holds: not from changes that are rolled back
CREATE TABLE undone (id integer PRIMARY KEY, api_key text);
INSERT INTO undone VALUES (1, 'old-key');
SELECT protect_api_keys('undone');
BEGIN;
UPDATE undone SET api_key = api_key;
SELECT count(*) FROM find_by_api_key(NULL::undone, 'unknown');
ROLLBACK;
SELECT id FROM find_by_api_key(NULL::undone, 'old-key');
-- nor once a partition at any level takes plaintext, or brings it along
CREATE TABLE tree (id integer, api_key text) PARTITION BY RANGE (id);
CREATE TABLE branch PARTITION OF tree FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (id);
CREATE TABLE leaf PARTITION OF branch FOR VALUES FROM (0) TO (10);
SELECT protect_api_keys('tree');
SELECT count(*) FROM find_by_api_key(NULL::tree, 'unknown');
CREATE TABLE other_leaf (LIKE branch);
INSERT INTO other_leaf (id, api_key) VALUES (11, 'came-along');
ALTER TABLE branch ATTACH PARTITION other_leaf FOR VALUES FROM (10) TO (20);
SELECT id FROM find_by_api_key(NULL::tree, 'came-along');
CALL migrate_api_keys('tree');
SELECT count(*) FROM find_by_api_key(NULL::tree, 'unknown');
ALTER TABLE leaf DISABLE TRIGGER ALL;
INSERT INTO leaf (id, api_key) VALUES (2, 'past-triggers');
SELECT id FROM find_by_api_key(NULL::tree, 'past-triggers');
-- nor where an inheritance child has no triggers
CREATE TABLE parent (id integer, api_key text);
SELECT protect_api_keys('parent');
CREATE TABLE child () INHERITS (parent);
SELECT count(*) FROM find_by_api_key(NULL::parent, 'unknown');
INSERT INTO child (id, api_key) VALUES (3, 'of-the-child');
SELECT id FROM find_by_api_key(NULL::parent, 'of-the-child');
-- nor for a copy that was made before
CREATE MATERIALIZED VIEW copied AS SELECT * FROM undone;
CALL migrate_api_keys('undone');
SELECT count(*) FROM find_by_api_key(NULL::undone, 'unknown');
SELECT id FROM find_by_api_key(NULL::copied, 'old-key');
DROP MATERIALIZED VIEW copied;
-- an owner without the right to look can't be asked
CREATE SCHEMA closed;
CREATE ROLE api_key_owner;
ALTER TABLE undone OWNER TO api_key_owner;
ALTER TABLE undone SET SCHEMA closed;
SELECT count(*) FROM find_by_api_key(NULL::closed.undone, 'unknown');
SELECT id FROM find_by_api_key(NULL::closed.undone, 'old-key');
DROP SCHEMA closed CASCADE;
DROP ROLE api_key_owner;
-- a hash is no credential even where it stands in the old column
CREATE TABLE hashes (id integer, api_key text);
INSERT INTO hashes VALUES (1, hash_api_key('secret', 'bcrypt', 4));
SELECT protect_api_keys('hashes');
SELECT count(*) FROM hashes AS h, LATERAL find_by_api_key(NULL::hashes, h.api_key);
DROP TABLE hashes, tree, child, parent;

-- a trigger that was made by hand, of columns that are no strings, and a column whose type changed
CREATE TABLE odd (id bigint, api_key text, api_key_hash text);
INSERT INTO odd VALUES (42, 'key-1');
CREATE TRIGGER "!pg_api_key_first" BEFORE INSERT ON odd FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('id', 'api_key_hash');
SELECT count(*) FROM find_by_api_key(NULL::odd, '42');
DROP TRIGGER "!pg_api_key_first" ON odd;
CREATE TRIGGER "!pg_api_key_first" BEFORE INSERT ON odd FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('api_key', 'id');
SELECT probe.answer('SELECT count(*) FROM find_by_api_key(NULL::odd, $1)', 'key-1');
DROP TRIGGER "!pg_api_key_first" ON odd;
SELECT protect_api_keys('odd');
INSERT INTO odd (id, api_key) VALUES (43, 'key-2');
SELECT id FROM find_by_api_key(NULL::odd, 'key-2');
ALTER TABLE odd ALTER COLUMN api_key_hash TYPE name;
SELECT probe.answer('SELECT count(*) FROM find_by_api_key(NULL::odd, $1)', 'key-2');
DROP TABLE odd;

-- first arguments that are none
SELECT probe.answer('SELECT * FROM find_by_api_key(1, $1)', 'key-7');
SELECT probe.answer('SELECT count(*) FROM find_by_api_key(NULL::pg_class, $1)', 'key-7');
SELECT probe.answer('SELECT count(*) FROM find_by_api_key(NULL::record, $1)', 'key-7');

-- as the caller: privileges and row security
CREATE ROLE api_key_reader;
GRANT USAGE ON SCHEMA probe TO api_key_reader;
SET ROLE api_key_reader;
SELECT probe.answer('SELECT id FROM find_by_api_key(NULL::parts, $1)', 'key-us');
RESET ROLE;
GRANT SELECT ON parts TO api_key_reader;
ALTER TABLE parts ENABLE ROW LEVEL SECURITY;
CREATE POLICY eu ON parts FOR SELECT USING (region = current_setting('app.region', true));
SET ROLE api_key_reader;
SELECT count(*) FROM find_by_api_key(NULL::parts, 'key-us');
SET app.region = 'us';
SELECT id FROM find_by_api_key(NULL::parts, 'key-us');
RESET ROLE;
SELECT id FROM find_by_api_key(NULL::parts, 'key-us');
-- who sees no row does not decide for others that none is left in plaintext
CREATE TABLE tenants (id integer PRIMARY KEY, tenant text, api_key text);
INSERT INTO tenants VALUES (1, 'a', 'tenant-key');
SELECT protect_api_keys('tenants');
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tenants FOR SELECT USING (tenant = current_setting('app.tenant', true));
GRANT SELECT ON tenants TO api_key_reader;
SET ROLE api_key_reader;
SELECT count(*) FROM find_by_api_key(NULL::tenants, 'tenant-key');
SET app.tenant = 'a';
SELECT id FROM find_by_api_key(NULL::tenants, 'tenant-key');
RESET ROLE;
DROP TABLE tenants;

-- in a transaction that only reads, in a function, by a prepared statement
BEGIN READ ONLY;
SELECT id FROM find_by_api_key(NULL::parts, 'key-us');
COMMIT;
PREPARE find(text) AS SELECT id FROM find_by_api_key(NULL::parts, $1);
EXECUTE find('key-eu');
EXECUTE find('key-us');
EXECUTE find('key-xx');
CREATE FUNCTION whose(key text) RETURNS integer STABLE LANGUAGE sql AS 'SELECT id FROM find_by_api_key(NULL::parts, key)';
SELECT whose('key-eu'), whose('key-us'), whose('key-xx');

-- the memory of verified pairs
SET pg_api_key.verify_cache_size = 0;
SELECT entries, capacity FROM api_key_cache_stats() WHERE capacity = 0;
SET pg_api_key.verify_cache_size = 2;
SELECT count(*) FROM generate_series(1, 3) AS n, LATERAL find_by_api_key(NULL::by_text, 'key-' || (10 + n)) AS found;
SELECT entries, capacity FROM api_key_cache_stats();
SELECT a.hits + 1 = b.hits FROM (SELECT hits FROM api_key_cache_stats() OFFSET 0) AS a, LATERAL (SELECT count(*) FROM find_by_api_key(NULL::by_text, 'key-13') OFFSET 0) AS f, LATERAL (SELECT hits FROM api_key_cache_stats() WHERE f.count = 1) AS b;
SELECT count(*) FROM find_by_api_key(NULL::by_text, 'key-14');
RESET pg_api_key.verify_cache_size;

DROP FUNCTION whose(text);
DEALLOCATE find;
DROP VIEW shown, hidden;
DROP TABLE renamed, by_text, by_uuid, parts;
REVOKE USAGE ON SCHEMA probe FROM api_key_reader;
DROP ROLE api_key_reader;
