-- find_by_api_key asks an index without the executor where it can; what it finds is the same
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
SET client_min_messages = error;

-- whether the executor has been asked: it keeps a plan after some look-ups
CREATE FUNCTION probe.plans(relation text) RETURNS bigint VOLATILE LANGUAGE plpgsql AS $$
DECLARE
    answer bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM generate_series(1, 8) AS n, LATERAL find_by_api_key(NULL::%I, ''nobody'' || n) AS f', relation)
       INTO answer;
    SELECT count(*) INTO answer FROM pg_backend_memory_contexts
     WHERE name = 'CachedPlan' AND ident ~ format('^SELECT .* FROM public.%I AS t WHERE t.api_key_hash ', relation);
    RETURN answer;
END
$$;
-- what a look-up finds, by the index and, as row security is on, by the executor
CREATE FUNCTION probe.both(relation text, VARIADIC keys text[]) RETURNS TABLE (rows_found text, agree boolean, plans bigint) VOLATILE LANGUAGE plpgsql AS $$
DECLARE
    query text := format('SELECT string_agg(concat_ws('' '', n, f.id, f.name, f.added), '', '' ORDER BY n, f.id)
                            FROM unnest($1) WITH ORDINALITY AS k (key, n), LATERAL find_by_api_key(NULL::%I, k.key) AS f', relation);
    by_executor text;
BEGIN
    EXECUTE query INTO rows_found USING keys;
    plans := probe.plans(relation);
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', relation);
    EXECUTE query INTO by_executor USING keys;
    agree := rows_found IS NOT DISTINCT FROM by_executor;
    EXECUTE format('ALTER TABLE %I DISABLE ROW LEVEL SECURITY', relation);
    RETURN NEXT;
END
$$;

CREATE TABLE one (id integer PRIMARY KEY, gone text, name text, api_key text);
INSERT INTO one VALUES (1, repeat('gone ', 1000), 'before', 'key-1'), (2, 'gone', NULL, 'key-2');
SELECT protect_api_keys('one');
CALL migrate_api_keys('one');
-- columns that are gone, and a default that the stored row does not know of
ALTER TABLE one DROP COLUMN gone, ADD COLUMN added text DEFAULT 'by default';
INSERT INTO one (id, name, api_key, added) VALUES (3, 'after', 'key-3', NULL);
SELECT * FROM probe.both('one', 'key-1', 'key-2', 'nobody', 'key-3', NULL, 'clé');
-- a domain over the row type
CREATE DOMAIN one_row AS one;
SELECT id, added FROM find_by_api_key(NULL::one_row, 'key-2');
-- one tag for all, and hashes of both kinds
SELECT protect_api_keys('one', algorithm => 'bcrypt', cost => 4, tag_bits => 0);
INSERT INTO one (id, api_key) VALUES (4, 'key-4'), (5, 'key-4');
UPDATE one SET name = 'tagged', api_key_tag = 0 WHERE id = 2;
SELECT * FROM probe.both('one', 'key-1', 'key-2', 'key-4', 'key-5');
SELECT protect_api_keys('one');

-- the executor is asked where the index is not there
DROP INDEX one_api_key_hash_idx;
SELECT * FROM probe.both('one', 'key-1', 'key-2', 'key-4');
-- or is another one now
CREATE UNIQUE INDEX CONCURRENTLY one_api_key_hash_idx ON one (api_key_hash) WHERE api_key_hash IS NOT NULL;
SELECT * FROM probe.both('one', 'key-1', 'key-2', 'key-4');
REINDEX INDEX CONCURRENTLY one_api_key_hash_idx;
SELECT * FROM probe.both('one', 'key-1', 'key-2', 'key-4');
-- tables that hold not all their rows themselves, or not for good
CREATE TABLE other (added text) INHERITS (one);
SELECT probe.plans('one');
DROP TABLE other;
ANALYZE one;
SELECT probe.plans('one');
CREATE UNLOGGED TABLE passing (id integer, api_key text);
SELECT protect_api_keys('passing');
INSERT INTO passing VALUES (1, 'key-1');
SELECT id, api_key_hash IS NOT NULL, probe.plans('passing') FROM find_by_api_key(NULL::passing, 'key-1');
-- two rows where the index is unique only at the end of a transaction
CREATE TABLE late (id integer, api_key text, api_key_hash text COLLATE "C" UNIQUE DEFERRABLE INITIALLY DEFERRED);
SELECT protect_api_keys('late');
BEGIN;
INSERT INTO late VALUES (1, 'twin'), (2, 'twin');
SELECT id FROM find_by_api_key(NULL::late, 'twin') ORDER BY id;
SELECT probe.plans('late');
ROLLBACK;
-- columns that are worked out when a row is read, which PostgreSQL 18 knows
SELECT CASE WHEN current_setting('server_version_num')::integer >= 180000 THEN 'VIRTUAL' ELSE 'STORED' END AS kind \gset
CREATE TABLE revocable (id integer, revoked_at timestamptz, api_key text, revoked boolean GENERATED ALWAYS AS (revoked_at IS NOT NULL) :kind);
SELECT protect_api_keys('revocable');
INSERT INTO revocable VALUES (1, now(), 'key-1'), (2, NULL, 'key-2');
SELECT k, f.id, f.revoked FROM unnest(ARRAY['key-1', 'key-2']) AS k, LATERAL find_by_api_key(NULL::revocable, k) AS f;
-- what a row held of a column that was dropped does not come along
CREATE TABLE slim (id integer, api_key text, gone text);
SELECT protect_api_keys('slim');
INSERT INTO slim VALUES (1, 'key-1', repeat('gone ', 300));
ALTER TABLE slim DROP COLUMN gone;
SELECT pg_column_size(f) < 200 FROM find_by_api_key(NULL::slim, 'key-1') AS f;
-- another type than text
CREATE TABLE padded (id integer, name text, added text, api_key text, api_key_hash char(64));
SELECT protect_api_keys('padded');
INSERT INTO padded (id, api_key) VALUES (1, 'key-1');
SELECT * FROM probe.both('padded', 'key-1', 'key-2');

-- privileges on columns are enough, and those on less than all are not
CREATE ROLE api_key_reader;
GRANT USAGE ON SCHEMA probe TO api_key_reader;
GRANT SELECT (id, name, added, api_key) ON one TO api_key_reader;
SET ROLE api_key_reader;
SELECT probe.answer('SELECT id FROM find_by_api_key(NULL::one, $1)', 'key-1');
RESET ROLE;
GRANT SELECT (api_key_hash, api_key_tag) ON one TO api_key_reader;
SET ROLE api_key_reader;
SELECT id FROM find_by_api_key(NULL::one, 'key-1');
RESET ROLE;
GRANT SELECT ON one TO api_key_reader;
SET ROLE api_key_reader;
SELECT id FROM find_by_api_key(NULL::one, 'key-1');
RESET ROLE;
-- and rows that the caller may not see are not found
ALTER TABLE one ENABLE ROW LEVEL SECURITY;
CREATE POLICY named ON one FOR SELECT USING (name = current_setting('app.name', true));
SET ROLE api_key_reader;
SELECT id FROM find_by_api_key(NULL::one, 'key-1');
SET app.name = 'before';
SELECT id FROM find_by_api_key(NULL::one, 'key-1');
RESET ROLE;
REVOKE ALL ON one FROM api_key_reader;
SET ROLE api_key_reader;
SELECT probe.answer('SELECT id FROM find_by_api_key(NULL::one, $1)', 'key-1');
RESET ROLE;

REVOKE USAGE ON SCHEMA probe FROM api_key_reader;
DROP ROLE api_key_reader;
DROP DOMAIN one_row;
DROP TABLE one, passing, late, revocable, slim, padded;
DROP FUNCTION probe.both(text, text[]), probe.plans(text);
