-- partitioned tables: one call protects every partition, now and later
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

CREATE TABLE clients (id integer, region text, api_key text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE clients_eu PARTITION OF clients FOR VALUES IN ('eu');
CREATE TABLE clients_us PARTITION OF clients FOR VALUES IN ('us') PARTITION BY RANGE (id);
CREATE TABLE clients_us_1 PARTITION OF clients_us FOR VALUES FROM (0) TO (100);
INSERT INTO clients VALUES (1, 'eu', 'key-1'), (2, 'us', 'key-2'), (3, 'eu', NULL);
SELECT protect_api_keys('clients_eu');
SELECT protect_api_keys('clients_us_1');
SELECT protect_api_keys('clients');
SELECT protect_api_keys('clients');
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger WHERE tgfoid = 'hash_api_key_trigger'::regproc ORDER BY tgrelid::regclass::text COLLATE "C", tgname COLLATE "C";
SELECT indexrelid::regclass, indisunique, indisvalid FROM pg_index WHERE indrelid IN (SELECT relid FROM pg_partition_tree('clients')) AND NOT indisprimary ORDER BY 1;
SELECT * FROM api_key_status;
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
SELECT * FROM api_key_status;

-- through the root, a branch and a leaf
INSERT INTO clients VALUES (10, 'eu', 'key-10'), (11, 'us', 'key-11');
INSERT INTO clients_us VALUES (12, 'us', 'key-12');
INSERT INTO clients_us_1 VALUES (13, 'us', 'key-13');
INSERT INTO clients_eu VALUES (14, 'eu', 'key-14');
COPY clients (id, region, api_key) FROM stdin;
15	eu	key-15
16	us	key-16
\.
COPY clients_us_1 (id, region, api_key) FROM stdin;
17	us	key-17
\.
UPDATE clients_eu SET api_key = 'key-1' WHERE id = 1;
SELECT tableoid::regclass, id, api_key, api_key_hash = hash_api_key('key-' || id) FROM clients ORDER BY id;
SELECT id FROM clients WHERE api_key_hash = hash_api_key('key-13');

-- rows that move, with and without a new key
UPDATE clients SET region = 'us' WHERE id = 14;
UPDATE clients SET region = 'eu', api_key = 'key-new' WHERE id = 17;
UPDATE clients SET region = 'us', api_key = api_key WHERE id = 10;
SELECT tableoid::regclass, id, api_key, api_key_hash IN (hash_api_key('key-' || id), hash_api_key('key-new')) FROM clients WHERE id IN (10, 14, 17) ORDER BY id;
-- upsert and merge
INSERT INTO clients VALUES (1, 'eu', 'key-1b') ON CONFLICT (id, region) DO UPDATE SET api_key = EXCLUDED.api_key;
INSERT INTO clients VALUES (1, 'eu', 'key-1b') ON CONFLICT (id, region) DO UPDATE SET api_key_hash = EXCLUDED.api_key_hash;
INSERT INTO clients VALUES (1, 'eu', 'key-1c') ON CONFLICT DO NOTHING;
MERGE INTO clients AS c USING (VALUES (1, 'eu', NULL), (20, 'eu', 'key-20'), (21, 'us', 'key-21'), (2, 'us', NULL)) AS n (id, region, api_key) ON (c.id, c.region) = (n.id, n.region)
    WHEN MATCHED THEN UPDATE SET api_key = n.api_key
    WHEN NOT MATCHED THEN INSERT (id, region, api_key) VALUES (n.id, n.region, n.api_key);
SELECT id, api_key, api_key_hash IN (hash_api_key('key-' || id), hash_api_key('key-1b')) FROM clients WHERE id IN (1, 2, 20, 21) ORDER BY id;
-- one key in two partitions: the index can't be unique
INSERT INTO clients VALUES (30, 'eu', 'key-30'), (30, 'us', 'key-30');
SELECT count(*) FROM clients WHERE api_key_hash = hash_api_key('key-30');

-- a partition that comes later
CREATE TABLE clients_us_2 PARTITION OF clients_us FOR VALUES FROM (100) TO (200);
INSERT INTO clients VALUES (100, 'us', 'key-100');
SET session_replication_role = replica;
INSERT INTO clients_us_2 VALUES (101, 'us', 'key-101');
RESET session_replication_role;
SELECT tableoid::regclass, id, api_key, api_key_hash = hash_api_key('key-' || id) FROM clients WHERE id >= 100 ORDER BY id;
-- one that is attached, with plaintext in it
CREATE TABLE clients_asia (region text NOT NULL, api_key_hash text COLLATE "C", id integer NOT NULL, api_key text);
INSERT INTO clients_asia (id, region, api_key) VALUES (40, 'asia', 'key-40');
ALTER TABLE clients ATTACH PARTITION clients_asia FOR VALUES IN ('asia');
INSERT INTO clients VALUES (41, 'asia', 'key-41');
INSERT INTO clients_asia (id, region, api_key) VALUES (42, 'asia', 'key-42');
SELECT tableoid::regclass, id, api_key, api_key_hash = hash_api_key('key-' || id) FROM clients WHERE region = 'asia' ORDER BY id;
SELECT plaintext, hashed, triggers_in_force FROM api_key_status;
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
SELECT tableoid::regclass, id, api_key, api_key_hash = hash_api_key('key-' || id) FROM clients WHERE region = 'asia' ORDER BY id;
SELECT plaintext, triggers_in_force FROM api_key_status;
-- one that is protected by itself has to give up its own triggers first
CREATE TABLE clients_africa (id integer NOT NULL, region text NOT NULL, api_key text);
SELECT protect_api_keys('clients_africa');
ALTER TABLE clients ATTACH PARTITION clients_africa FOR VALUES IN ('africa');
SELECT unprotect_api_keys('clients_africa');
ALTER TABLE clients ATTACH PARTITION clients_africa FOR VALUES IN ('africa');
INSERT INTO clients_africa VALUES (50, 'africa', 'key-50');
SELECT id, api_key, api_key_hash = hash_api_key('key-50') FROM clients_africa;
-- a partition whose triggers are weakened shows
ALTER TABLE clients_eu DISABLE TRIGGER "~pg_api_key_last";
SELECT triggers_in_force FROM api_key_status;
SELECT protect_api_keys('clients');
SELECT triggers_in_force FROM api_key_status;
SELECT DISTINCT tgenabled FROM pg_trigger WHERE tgfoid = 'hash_api_key_trigger'::regproc;
-- one that leaves is on its own
ALTER TABLE clients DETACH PARTITION clients_asia;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'clients_asia'::regclass;
SELECT protect_api_keys('clients_asia');
INSERT INTO clients_asia (id, region, api_key) VALUES (43, 'asia', 'key-43');
SELECT id, api_key FROM clients_asia WHERE id = 43;

-- other arguments
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 4);
INSERT INTO clients VALUES (60, 'eu', 'key-60'), (61, 'us', 'key-61');
SELECT tableoid::regclass, id, api_key, verify_api_key('key-' || id, api_key_hash), api_key_tag = api_key_tag('key-' || id) FROM clients WHERE id >= 60 AND id < 70 ORDER BY id;
SELECT unprotect_api_keys('clients_eu');
SELECT unprotect_api_keys('clients');
SELECT count(*) FROM pg_trigger WHERE tgrelid IN (SELECT relid FROM pg_partition_tree('clients'));
DROP TABLE clients, clients_asia;

-- a limit: what can't be hashed can't move, since it arrives as an INSERT
CREATE TABLE clients (id integer, region text, api_key text) PARTITION BY LIST (region);
CREATE TABLE clients_eu PARTITION OF clients FOR VALUES IN ('eu');
CREATE TABLE clients_us PARTITION OF clients FOR VALUES IN ('us');
INSERT INTO clients VALUES (1, 'eu', 'bad key');
SELECT protect_api_keys('clients');
UPDATE clients SET id = 2;
UPDATE clients SET region = 'us';
SELECT tableoid::regclass, id, api_key FROM clients;
DROP TABLE clients;

-- inheritance: triggers do not reach children
CREATE TABLE parent (id integer, api_key text);
CREATE TABLE child (extra text) INHERITS (parent);
INSERT INTO parent VALUES (1, 'key-1');
INSERT INTO child VALUES (2, 'key-2');
SELECT protect_api_keys('parent');
SELECT protect_api_keys('child');
SELECT protect_api_keys('parent');
UPDATE parent SET api_key = api_key;
INSERT INTO child VALUES (3, 'key-3');
SELECT tableoid::regclass, id, api_key, api_key_hash = hash_api_key('key-' || id) FROM parent ORDER BY id;
SELECT protected_table, plaintext, hashed FROM api_key_status;
DROP TABLE parent CASCADE;
