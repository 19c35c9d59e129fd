-- hash_api_keys: many keys in one call
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

-- each hash at its key's place, by any number of threads
SELECT threads, bool_and(verify_api_key('key-' || n, hash) AND left(hash, 7) = '$2a$04$'), count(*), count(DISTINCT hash) FROM (VALUES (0), (1), (2), (3), (64), (2147483647)) AS t (threads), unnest(hash_api_keys((SELECT array_agg('key-' || n ORDER BY n) FROM generate_series(1, 23) AS n), 'bcrypt', 4, threads)) WITH ORDINALITY AS h (hash, n) GROUP BY threads ORDER BY threads;
SELECT bool_or(verify_api_key('key-' || n + 1, hash)) FROM unnest(hash_api_keys((SELECT array_agg('key-' || n ORDER BY n) FROM generate_series(1, 23) AS n), 'bcrypt', 4)) WITH ORDINALITY AS h (hash, n);
SELECT hash_api_keys(ARRAY['a', 'b', 'a'], 'sha256') = ARRAY[hash_api_key('a'), hash_api_key('b'), hash_api_key('a')];
SELECT cardinality(hashes), hashes[5000] = hash_api_key('key-5000'), hashes[9999] = hash_api_key('key-9999') FROM (SELECT hash_api_keys((SELECT array_agg('key-' || n ORDER BY n) FROM generate_series(1, 9999) AS n), 'sha256') AS hashes) AS made;
SELECT count(DISTINCT hash) FROM unnest(hash_api_keys(array_fill('same-key'::text, ARRAY[20]), 'bcrypt', 4)) AS hash;
SELECT left((hash_api_keys(ARRAY['a'], 'bcrypt'))[1], 7), left((hash_api_keys(ARRAY['a'], 'bcrypt', 5))[1], 7);
-- lengths around bcrypt's block and its end
SELECT bool_and(verify_api_key(key, hash)), bool_or(verify_api_key(key || 'x', hash) AND length(key) < 72) FROM (SELECT array_agg(repeat('k', n) ORDER BY n) AS keys FROM unnest(ARRAY[1, 2, 3, 4, 5, 17, 18, 35, 36, 70, 71, 72]) AS n) AS k, unnest(keys, hash_api_keys(keys, 'bcrypt', 4)) AS made (key, hash);

-- nulls stay where they are
SELECT hash_api_keys(ARRAY[NULL, 'a', NULL, 'b', NULL], 'sha256') = ARRAY[NULL, hash_api_key('a'), NULL, hash_api_key('b'), NULL];
SELECT hashes[1] IS NULL, verify_api_key('a', hashes[2]), hashes[3] IS NULL, verify_api_key('b', hashes[4]) FROM (SELECT hash_api_keys(ARRAY[NULL, 'a', NULL, 'b'], 'bcrypt', 4) AS hashes) AS made;
SELECT hash_api_keys(ARRAY[NULL, NULL]::text[], 'bcrypt', 4);
SELECT hash_api_keys('{}', 'sha256'), hash_api_keys('{}', 'bcrypt', 4);
SELECT num_nulls(hash_api_keys(NULL, 'sha256'), hash_api_keys(ARRAY['a'], NULL), hash_api_keys(ARRAY['a'], 'bcrypt', NULL), hash_api_keys(ARRAY['a'], 'bcrypt', 4, NULL));
-- varchar and char are taken as text
SELECT hash_api_keys(ARRAY['a'::varchar, 'b'], 'sha256') = hash_api_keys(ARRAY['a', 'b'], 'sha256'), hash_api_keys(ARRAY['a'::char(9)]::text[], 'sha256') = hash_api_keys(ARRAY['a'], 'sha256');
-- other shapes
SELECT array_dims(hash_api_keys('[5:6]={a,b}', 'sha256'));
SELECT probe.answer($$SELECT hash_api_keys(ARRAY[[$1, 'b'], ['c', 'd']], 'sha256')$$, 'marker1');
-- what is stored compressed, as all keys of a table at once
CREATE TABLE wide (keys text[]);
INSERT INTO wide SELECT array_agg(repeat('k', 100) || n ORDER BY n) FROM generate_series(1, 1000) AS n;
SELECT hashes[1000] = hash_api_key(keys[1000]) FROM (SELECT keys, hash_api_keys(keys, 'sha256') AS hashes FROM wide) AS made;
DROP TABLE wide;

-- a bad key is named by its place only
SELECT probe.answer($$SELECT hash_api_keys(ARRAY['a', $1], 'sha256')$$, 'marker 1');
SELECT probe.answer($$SELECT hash_api_keys(ARRAY['a', NULL, $1, 'b'], 'bcrypt', 4)$$, E'marker1\n');
SELECT probe.answer($$SELECT hash_api_keys(ARRAY['a', $1], 'sha256')$$, '');
SELECT probe.answer($$SELECT hash_api_keys(ARRAY[NULL, $1], 'sha256')$$, 'märker1');
SELECT probe.answer($$SELECT hash_api_keys(ARRAY[$1], 'sha256')$$, repeat('marker1', 200));
SELECT probe.answer($$SELECT hash_api_keys(ARRAY['a', NULL, $1], 'bcrypt', 4)$$, repeat('k', 73));
SELECT probe.answer($$SELECT left((hash_api_keys(ARRAY['a', $1], 'sha256'))[2], 4)$$, repeat('k', 73));
SELECT probe.answer($$SELECT hash_api_keys(ARRAY['a', $1], 'bcrypt', 4)$$, hash_api_key('marker1', 'bcrypt', 4));
-- before the others are hashed, which would take many minutes
SET statement_timeout = '1 min';
SELECT probe.answer($$SELECT hash_api_keys(array_fill('a'::text, ARRAY[5000]) || $1, 'bcrypt', 14)$$, repeat('k', 73));
RESET statement_timeout;
-- so are other mistakes
SELECT probe.answer($$SELECT hash_api_keys(ARRAY[$1], 'md5')$$, 'marker1');
SELECT probe.answer($$SELECT hash_api_keys(ARRAY['bcrypt'], $1)$$, 'marker1');
SELECT probe.answer($$SELECT hash_api_keys(ARRAY[$1], 'bcrypt', 3)$$, 'marker1');
SELECT probe.answer($$SELECT hash_api_keys(ARRAY[$1], 'bcrypt', 15)$$, 'marker1');
SELECT probe.answer($$SELECT hash_api_keys(ARRAY[$1], 'bcrypt', 4, -1)$$, 'marker1');
SELECT probe.answer($$SELECT hash_api_keys(ARRAY[$1], 'sha256', 10, -1)$$, 'marker1');
SELECT probe.answer($$SELECT hash_api_keys('{}', 'bcrypt', 4, -2147483648)$$);
SELECT probe.answer($$SELECT hash_api_keys('{}', 'md5')$$);

-- for one's own UPDATE
CREATE TABLE own (id integer PRIMARY KEY, api_key text, api_key_hash text);
INSERT INTO own SELECT n, 'key-' || n FROM generate_series(1, 10) AS n;
WITH keys AS (SELECT array_agg(id ORDER BY id) AS ids, hash_api_keys(array_agg(api_key ORDER BY id), 'bcrypt', 4) AS hashes FROM own) UPDATE own SET api_key_hash = hash FROM keys, unnest(ids, hashes) AS made (id, hash) WHERE own.id = made.id;
SELECT count(*) FROM own WHERE verify_api_key(api_key, api_key_hash);
DROP TABLE own;
