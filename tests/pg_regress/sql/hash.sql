-- hashing: equal to what everybody else prints
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

-- printf %s KEY | sha256sum
SELECT hash_api_key('abc');
SELECT hash_api_key('secret');
SELECT hash_api_key('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');
-- NIST, FIPS 180-4: two blocks, and a message of 896 bits
SELECT hash_api_key('abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq');
SELECT hash_api_key('abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu');
-- PostgreSQL's own, for every length up to the longest key
SELECT count(*), bool_and(hash_api_key(repeat('k', n)) = encode(sha256(convert_to(repeat('k', n), 'UTF8')), 'hex')) FROM generate_series(1, 1024) AS n;
-- every character that a key may hold, as its byte
SELECT bool_and(hash_api_key('k' || chr(n)) = encode(sha256(convert_to('k' || chr(n), 'UTF8')), 'hex')) FROM generate_series(x'21'::integer, x'7e'::integer) AS n;
SELECT hash_api_key('k\y\101\\') = encode(sha256(convert_to('k\y\101\\', 'UTF8')), 'hex');
SELECT length(hash_api_key('abc')), hash_api_key('abc') = lower(hash_api_key('abc'));
-- 64 hexadecimal digits are a key, since openssl rand -hex 32 prints such
SELECT hash_api_key('0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef');
-- what is stored compressed is the same key
CREATE TEMP TABLE wide (api_key text, filler text);
ALTER TABLE wide ALTER COLUMN filler SET STORAGE PLAIN;
INSERT INTO wide VALUES (repeat('k', 1024), repeat('f', 2000));
SELECT pg_column_size(api_key) < 100, hash_api_key(api_key) = hash_api_key(repeat('k', 1024)) FROM wide;
DROP TABLE wide;
-- null in, null out
SELECT hash_api_key(NULL) IS NULL;
-- an unknown literal, varchar and char are taken as text
SELECT hash_api_key('abc'::varchar) = hash_api_key('abc'), hash_api_key('abc'::char(8)) = hash_api_key('abc');

-- with the algorithm named
SELECT hash_api_key('abc', 'sha256') = hash_api_key('abc');
SELECT hash_api_key('abc', 'sha256', 31) = hash_api_key('abc');
SELECT hash_api_key(key => 'abc', algorithm => 'sha256', cost => 0) = hash_api_key('abc');
SELECT hash_api_key('abc', 'bcrypt') ~ '^\$2a\$10\$[./A-Za-z0-9]{53}$';
SELECT hash_api_key('abc', 'bcrypt', 4) ~ '^\$2a\$04\$[./A-Za-z0-9]{53}$';
SELECT hash_api_key('abc', 'bcrypt', cost => 5) ~ '^\$2a\$05\$[./A-Za-z0-9]{53}$';
SELECT count(DISTINCT hash_api_key('abc', 'bcrypt', 4)) FROM generate_series(1, 20);
SELECT bool_and(length(hash_api_key(repeat('k', n), 'bcrypt', 4)) = 60) FROM unnest(ARRAY[1, 71, 72]) AS n;
SELECT num_nulls(hash_api_key(NULL, 'sha256'), hash_api_key('abc', NULL), hash_api_key('abc', 'bcrypt', NULL));

-- one indexed query authenticates
CREATE TEMP TABLE services (name text, api_key_hash text UNIQUE);
INSERT INTO services SELECT 's' || n, hash_api_key('key-' || n) FROM generate_series(1, 1000) AS n;
SELECT name FROM services WHERE api_key_hash = hash_api_key('key-77');
SELECT count(*) FROM services WHERE api_key_hash = hash_api_key('key-0');
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT name FROM services WHERE api_key_hash = hash_api_key('key-77');
PREPARE authenticate (text) AS SELECT name FROM services WHERE api_key_hash = hash_api_key($1);
EXECUTE authenticate('key-78');
-- a generic plan calls the function once, as an index condition
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE authenticate('key-78');
EXECUTE authenticate('key-79');
RESET plan_cache_mode;
RESET enable_seqscan;
RESET enable_bitmapscan;
DEALLOCATE authenticate;
DROP TABLE services;
