-- what is no key: one clear error each, with SQLSTATE 22023 and a hint, and the key nowhere in it
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

-- the key itself
SELECT probe.answer('SELECT hash_api_key($1)', '');
SELECT probe.answer('SELECT length(hash_api_key($1))', repeat('m', 1024));
SELECT probe.answer('SELECT hash_api_key($1)', repeat('m', 1025));
SELECT probe.answer('SELECT hash_api_key($1)', repeat('m', 1000000));
SELECT probe.answer('SELECT hash_api_key($1)', E'marker_1\n');
SELECT probe.answer('SELECT hash_api_key($1)', E'marker_1\r\n');
SELECT probe.answer('SELECT hash_api_key($1)', E'marker_1\r');
SELECT probe.answer('SELECT hash_api_key($1)', ' marker_1');
SELECT probe.answer('SELECT hash_api_key($1)', 'marker_1 ');
SELECT probe.answer('SELECT hash_api_key($1)', 'marker 1');
SELECT probe.answer('SELECT hash_api_key($1)', ' ');
SELECT probe.answer('SELECT hash_api_key($1)', E'marker_1\t');
SELECT probe.answer('SELECT hash_api_key($1)', E'\tmarker_1');
SELECT probe.answer('SELECT hash_api_key($1)', E'marker\t1');
SELECT probe.answer('SELECT hash_api_key($1)', E'marker\n1');
SELECT probe.answer('SELECT hash_api_key($1)', E'\nmarker_1');
SELECT probe.answer('SELECT hash_api_key($1)', E'marker\x01_1');
SELECT probe.answer('SELECT hash_api_key($1)', E'marker\x7f');
SELECT probe.answer('SELECT hash_api_key($1)', U&'marker\00e9');
SELECT probe.answer('SELECT hash_api_key($1)', U&'\feffmarker_1');
SELECT probe.answer('SELECT hash_api_key($1)', U&'marker\00a0');
SELECT probe.answer('SELECT hash_api_key($1)', U&'marker\200b');
SELECT probe.answer('SELECT hash_api_key($1)', U&'\+01f511');
SELECT probe.answer('SELECT hash_api_key($1)', '$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy');
SELECT probe.answer('SELECT hash_api_key($1)', '$2b$marker');
SELECT probe.answer('SELECT hash_api_key($1)', '$2y$marker');
SELECT probe.answer('SELECT hash_api_key($1)', '$2x$marker');
SELECT probe.answer('SELECT hash_api_key($1)', '$hmac-sha256$marker');
SELECT probe.answer('SELECT length(hash_api_key($1))', '$2z$marker');

-- the same, where the algorithm is named
SELECT probe.answer('SELECT hash_api_key($1, ''sha256'')', '');
SELECT probe.answer('SELECT hash_api_key($1, ''sha256'')', repeat('m', 1025));
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', 4)', '');
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', 4)', E'marker_1\n');
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', 4)', '$2a$10$marker');
SELECT probe.answer('SELECT length(hash_api_key($1, ''bcrypt'', 4))', repeat('m', 71));
SELECT probe.answer('SELECT length(hash_api_key($1, ''bcrypt'', 4))', repeat('m', 72));
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', 4)', repeat('m', 73));
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', 4)', repeat('m', 1024));

-- the algorithm: swapped arguments above all, where the key stands in its place
SELECT probe.answer('SELECT hash_api_key(''sha256'', $1)', 'marker_1');
SELECT probe.answer('SELECT hash_api_key(''bcrypt'', $1, 10)', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, ''md5'')', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, ''SHA256'')', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, ''sha-256'')', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt '')', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, '''')', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, $1)', 'marker_1');
SELECT probe.answer('SELECT hash_api_key(''key'', $1)', U&'marker\00e9');
SELECT probe.answer('SELECT hash_api_key($1, ''hmac-sha256'')', 'marker_1');

-- the cost: 4 to the limit
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', 3)', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', 0)', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', -1)', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', 15)', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', 31)', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', 32)', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', 266)', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', -2147483648)', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', 2147483647)', 'marker_1');
SET pg_api_key.max_bcrypt_cost = 4;
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'', 5)', 'marker_1');
SELECT probe.answer('SELECT hash_api_key($1, ''bcrypt'')', 'marker_1');
SELECT probe.answer('SELECT length(hash_api_key($1, ''bcrypt'', 4))', 'marker_1');
RESET pg_api_key.max_bcrypt_cost;
SET pg_api_key.max_bcrypt_cost = 3;
SET pg_api_key.max_bcrypt_cost = 32;
SET pg_api_key.max_bcrypt_cost = 'many';
SHOW pg_api_key.max_bcrypt_cost;
-- a misspelt setting is an error, not a placeholder that anybody may read
SET pg_api_key.max_bcrypt_costs = 12;

-- why a text is no key, for counting
SELECT api_key_fault('abc'), api_key_fault(NULL), api_key_fault(repeat('k', 73), 'sha256');
SELECT api_key_fault(''), api_key_fault(E'a\n'), api_key_fault(' a'), api_key_fault('a b'), api_key_fault(E'a\tb'), api_key_fault(U&'\00e9'), api_key_fault('$2a$'), api_key_fault(repeat('k', 1025));
SELECT api_key_fault(repeat('k', 72), 'bcrypt'), api_key_fault(repeat('k', 73), 'bcrypt'), api_key_fault('', 'bcrypt');
SELECT probe.answer('SELECT api_key_fault(''abc'', $1)', 'marker_1');

-- the same through the trigger, in an INSERT, an UPDATE and a MERGE
SET client_min_messages = warning;
CREATE TABLE clients (id integer PRIMARY KEY, api_key text);
SELECT protect_api_keys('clients');
INSERT INTO clients VALUES (1, 'good');
SELECT probe.answer('INSERT INTO clients VALUES (2, $1)', '');
SELECT probe.answer('INSERT INTO clients VALUES (2, $1)', repeat('m', 1025));
SELECT probe.answer('INSERT INTO clients VALUES (2, $1)', E'marker_1\n');
SELECT probe.answer('INSERT INTO clients VALUES (2, $1)', ' marker_1');
SELECT probe.answer('INSERT INTO clients VALUES (2, $1)', 'marker 1');
SELECT probe.answer('INSERT INTO clients VALUES (2, $1)', E'marker\x01');
SELECT probe.answer('INSERT INTO clients VALUES (2, $1)', U&'marker\00e9');
SELECT probe.answer('INSERT INTO clients VALUES (2, $1)', '$2a$10$marker');
SELECT probe.answer('UPDATE clients SET api_key = $1', E'marker_1\n');
SELECT probe.answer('UPDATE clients SET api_key = $1', '$hmac-sha256$marker');
SELECT probe.answer('MERGE INTO clients AS c USING (VALUES (1)) AS n (id) ON c.id = n.id WHEN MATCHED THEN UPDATE SET api_key = $1', 'marker 1');
-- a duplicate key shows its hash at most
SELECT probe.answer('INSERT INTO clients VALUES (2, $1)', 'good');
-- a row that another constraint refuses is shown without the key
ALTER TABLE clients ADD COLUMN amount integer CHECK (amount > 0);
SELECT probe.answer('INSERT INTO clients VALUES (3, $1, NULL, -1)', 'marker_1');
UPDATE clients SET amount = 1;
ALTER TABLE clients ALTER COLUMN amount SET NOT NULL;
SELECT probe.answer('INSERT INTO clients VALUES (3, $1)', 'marker_1');
TABLE clients;
DROP TABLE clients;
