-- migration the plain way: UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

CREATE TABLE clients (id integer PRIMARY KEY, api_key text);
INSERT INTO clients SELECT n, 'key-' || n FROM generate_series(1, 1000) AS n;
INSERT INTO clients VALUES (1001, NULL);
SELECT protect_api_keys('clients');
SELECT plaintext, hashed FROM api_key_status;
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
SELECT plaintext, hashed FROM api_key_status;
SELECT count(*) FILTER (WHERE api_key_hash = hash_api_key('key-' || id)), count(api_key), count(*) FROM clients;
-- a second run has nothing to do, whether it says so or not
CREATE TABLE probe.hashes AS SELECT id, api_key_hash FROM clients;
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
UPDATE clients SET api_key = api_key;
SELECT count(*) FROM clients JOIN probe.hashes USING (id) WHERE clients.api_key_hash IS NOT DISTINCT FROM hashes.api_key_hash;
DROP TABLE probe.hashes;
DROP TABLE clients;

-- what can't be hashed stays, with one warning a command
CREATE TABLE clients (id integer PRIMARY KEY, api_key text, name text);
INSERT INTO clients VALUES (1, 'key-1'), (2, ''), (3, 'with blank'), (4, E'newline\n'), (5, '$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy'), (6, repeat('k', 1025)), (7, U&'cl\00e9'), (8, 'key-8');
SELECT protect_api_keys('clients');
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
SELECT id, left(api_key, 10), api_key_hash = hash_api_key('key-' || id) FROM clients ORDER BY id;
SELECT plaintext, hashed FROM api_key_status;
-- such a row can still be worked with
UPDATE clients SET name = 'renamed' WHERE id = 3;
UPDATE clients SET id = 30, name = 'renamed', api_key = 'with blank' WHERE id = 3;
SELECT id, name, api_key FROM clients WHERE id = 30;
-- its key can't be moved elsewhere, and another as bad is refused
SELECT probe.answer('UPDATE clients SET api_key = $1 WHERE id = 30', 'with blank inside');
SELECT probe.answer('UPDATE clients SET api_key = $1 || '' '' WHERE id = 30', 'with blank');
-- a new key is what it needs
UPDATE clients SET api_key = 'key-30' WHERE id = 30;
SELECT id, api_key, api_key_hash = hash_api_key('key-30') FROM clients WHERE id = 30;
-- the warning is one a command, not one a session
BEGIN;
UPDATE clients SET name = 'a' WHERE id IN (2, 4);
UPDATE clients SET name = 'b' WHERE id IN (2, 4);
COMMIT;
DROP TABLE clients;
-- the key is not in the warning
CREATE TABLE clients (id integer PRIMARY KEY, api_key char(20), api_key_hash text);
INSERT INTO clients VALUES (1, 'with blank'), (2, 'key-2');
SELECT protect_api_keys('clients');
UPDATE clients SET api_key = api_key;
SELECT id, api_key, api_key_hash = hash_api_key('key-2') FROM clients ORDER BY id;
DROP TABLE clients;

-- rows that hold a hash already: this key's stays, another key's stays too and is reported
CREATE TABLE clients (id integer PRIMARY KEY, api_key text, api_key_hash text);
INSERT INTO clients VALUES (1, 'key-1', hash_api_key('key-1')), (2, 'key-2', hash_api_key('other-2')), (3, 'key-3', 'no hash'), (4, 'key-4', ''), (5, 'key-5', NULL), (6, 'key-6', hash_api_key('key-6', 'bcrypt', 4)), (7, 'key-7', hash_api_key('other-7', 'bcrypt', 4));
SELECT protect_api_keys('clients');
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
SELECT id, api_key, CASE WHEN api_key_hash LIKE '$%' THEN left(api_key_hash, 7) ELSE 'sha256' END, verify_api_key('key-' || id, api_key_hash), verify_api_key('other-' || id, api_key_hash) FROM clients ORDER BY id;
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
SELECT plaintext, hashed FROM api_key_status;
-- the way out: say which of the two is right
UPDATE clients SET api_key_hash = NULL WHERE id = 2;
UPDATE clients SET api_key = NULL WHERE id = 7;
SELECT id, api_key, verify_api_key('key-' || id, api_key_hash), verify_api_key('other-' || id, api_key_hash) FROM clients WHERE id IN (2, 7) ORDER BY id;
-- a key that changes has a new hash, whatever the old one was
INSERT INTO clients VALUES (8, NULL, hash_api_key('other-8'));
UPDATE clients SET api_key = 'key-8' WHERE id = 8;
SELECT id, api_key, verify_api_key('key-8', api_key_hash) FROM clients WHERE id = 8;
DROP TABLE clients;

-- a stored hash too costly to check stops the command, and names the setting
CREATE TABLE clients (id integer PRIMARY KEY, api_key text, api_key_hash text);
INSERT INTO clients VALUES (1, 'key-1', '$2a$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SELECT protect_api_keys('clients');
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
TABLE clients;
DROP TABLE clients;

-- duplicates: the first of each is as good as the others, so the index refuses the second
CREATE TABLE clients (id integer PRIMARY KEY, api_key text);
INSERT INTO clients VALUES (1, 'key-1'), (2, 'key-1'), (3, 'key-3');
SELECT protect_api_keys('clients');
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
SELECT count(api_key), count(api_key_hash) FROM clients;
DROP TABLE clients;

-- bcrypt, with keys of more than 72 bytes
CREATE TABLE clients (id integer PRIMARY KEY, api_key text);
INSERT INTO clients VALUES (1, repeat('k', 72)), (2, repeat('k', 73)), (3, 'key-3'), (4, 'key-3');
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 4);
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
SELECT id, length(api_key), verify_api_key(CASE id WHEN 1 THEN repeat('k', 72) ELSE 'key-3' END, api_key_hash), api_key_tag IS NOT NULL FROM clients ORDER BY id;
SELECT probe.answer('INSERT INTO clients VALUES (5, $1)', repeat('m', 73));
-- SHA-256 takes it
SELECT protect_api_keys('clients');
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL;
SELECT id, api_key, verify_api_key(CASE id WHEN 1 THEN repeat('k', 72) WHEN 2 THEN repeat('k', 73) ELSE 'key-3' END, api_key_hash) FROM clients ORDER BY id;
DROP TABLE clients;

-- a key that went into the hash column by mistake
CREATE TABLE clients (id integer PRIMARY KEY, api_key text, api_key_hash text);
INSERT INTO clients VALUES (1, NULL, 'key-1'), (2, NULL, hash_api_key('key-2'));
SELECT protect_api_keys('clients');
UPDATE public.clients SET api_key = api_key_hash WHERE NOT public.is_api_key_hash(api_key_hash);
SELECT id, api_key, api_key_hash = hash_api_key('key-' || id) FROM clients ORDER BY id;
DROP TABLE clients;
