-- tables and columns with any name, key columns of any string type
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

-- a schema that is not on the search_path, and mixed case
CREATE SCHEMA "Mixed Case";
CREATE TABLE "Mixed Case"."Clients" ("Id" integer PRIMARY KEY, "apiKey" text);
INSERT INTO "Mixed Case"."Clients" VALUES (1, 'key-1');
SELECT protect_api_keys('"Mixed Case"."Clients"', 'apiKey', 'apiKeyHash');
UPDATE "Mixed Case"."Clients" SET "apiKey" = "apiKey" WHERE "apiKey" IS NOT NULL;
INSERT INTO "Mixed Case"."Clients" VALUES (2, 'key-2');
SELECT "Id", "apiKey", "apiKeyHash" = hash_api_key('key-' || "Id") FROM "Mixed Case"."Clients" ORDER BY 1;
SELECT protect_api_keys('"Mixed Case"."Clients"', 'apiKey', 'apiKeyHash');
SELECT * FROM api_key_status;
SELECT protect_api_keys('"Mixed Case"."Clients"', 'apiKey', 'apiKeyHash', 'bcrypt', 4);
INSERT INTO "Mixed Case"."Clients" VALUES (3, 'key-3');
INSERT INTO "Mixed Case"."Clients" VALUES (3, 'key-4') ON CONFLICT ("Id") DO UPDATE SET "apiKey" = EXCLUDED."apiKey";
SELECT "Id", "apiKey", verify_api_key('key-3', "apiKeyHash"), "apiKey_tag" = api_key_tag('key-3') FROM "Mixed Case"."Clients" WHERE "Id" = 3;
SELECT unprotect_api_keys('"Mixed Case"."Clients"');
DROP SCHEMA "Mixed Case" CASCADE;

-- two tables of one name
CREATE SCHEMA elsewhere;
CREATE TABLE clients (id integer, api_key text);
CREATE TABLE elsewhere.clients (id integer, api_key text);
SELECT protect_api_keys('elsewhere.clients');
SELECT protected_table FROM api_key_status;
INSERT INTO clients VALUES (1, 'key-1');
INSERT INTO elsewhere.clients VALUES (1, 'key-1');
TABLE clients;
SELECT id, api_key FROM elsewhere.clients;
DROP TABLE clients;
DROP SCHEMA elsewhere CASCADE;

-- names that break whatever is not quoted as it must be
CREATE FUNCTION probe.hostile(table_name text, key_name text, hash_name text, algorithm text DEFAULT 'sha256') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    target regclass;
    plain bigint;
    matching bigint;
BEGIN
    EXECUTE format('CREATE TABLE %I (id integer PRIMARY KEY, %I text)', table_name, key_name);
    target := format('%I', table_name)::regclass;
    EXECUTE format('INSERT INTO %I VALUES (1, ''key-1'')', table_name);
    PERFORM protect_api_keys(target, key_name, hash_name, algorithm, 4);
    PERFORM protect_api_keys(target, key_name, hash_name, algorithm, 4);
    EXECUTE format('UPDATE %1$I SET %2$I = %2$I', table_name, key_name);
    EXECUTE format('INSERT INTO %I VALUES (2, ''key-2'')', table_name);
    EXECUTE format('MERGE INTO %1$I AS t USING (VALUES (3, ''key-3''), (1, NULL)) AS n (id, key) ON t.id = n.id WHEN MATCHED THEN UPDATE SET %2$I = n.key WHEN NOT MATCHED THEN INSERT (id, %2$I) VALUES (n.id, n.key)', table_name, key_name);
    EXECUTE format('SELECT count(%I), count(*) FILTER (WHERE verify_api_key(''key-'' || id, %I)) FROM %I', key_name, hash_name, table_name) INTO plain, matching;
    RETURN (SELECT format('%s plaintext, %s matching, status %s %s', plain, matching, (s.protected_table, s.key_column, s.hash_column) = (target, key_name, hash_name), s.triggers_in_force) FROM api_key_status AS s);
EXCEPTION WHEN OTHERS THEN
    RETURN SQLERRM;
END
$$;
SET client_min_messages = warning;
CREATE FUNCTION probe.hostile_all(algorithm text) RETURNS TABLE (name text, answer text) LANGUAGE plpgsql AS $body$
BEGIN
    FOREACH name IN ARRAY ARRAY['"', '""', '''', '''''', '\', '\\', '\''', '$$', '$sql$', '%', '%s', '%I', '%1$s', ' ', ' a ', E'\n', ';', '--', '/*', 'a.b', '"a"."b"', 'select', 'user', 'NULL', 'key', 'hash', 'algorithm', 'target', 'item', 'found', 'A', '1', 'x''); DROP TABLE probe.canary; --', U&'cl\00e9', U&'\+01f511', U&'\00e4\0308', repeat('a', 63)] LOOP
        BEGIN
            answer := probe.hostile('t' || left(name, 62), name, 'h' || left(name, 62), algorithm);
            RAISE EXCEPTION 'undo' USING ERRCODE = 'raise_exception';
        EXCEPTION WHEN raise_exception THEN
            RETURN NEXT;
        END;
    END LOOP;
END
$body$;
CREATE TABLE probe.canary ();
SELECT count(*), answer FROM probe.hostile_all('sha256') GROUP BY answer;
SELECT count(*), answer FROM probe.hostile_all('bcrypt') GROUP BY answer;
TABLE probe.canary;
DROP TABLE probe.canary;
-- names of 63 bytes, where a tag column's name has to be shorter than the key's
SELECT probe.hostile(repeat('t', 63), repeat('k', 63), repeat('h', 63), 'bcrypt');
DROP TABLE ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt;
SELECT probe.hostile('accents', repeat(U&'\00e9', 31), 'hash', 'bcrypt');
SELECT attname FROM pg_attribute WHERE attrelid = 'accents'::regclass AND atttypid = 'integer'::regtype AND attname <> 'id';
DROP TABLE accents;
SELECT probe.hostile('accents', repeat(U&'\00e9', 31) || 'x', 'hash', 'bcrypt');
DROP TABLE accents;
SELECT probe.hostile('accents', repeat(U&'\+01f511', 15) || 'xyz', 'hash', 'bcrypt');
DROP TABLE accents;
-- messages with such names
CREATE TABLE "a ""b"" 'c' %s" (id integer, "k %s \ ""x""" text NOT NULL DEFAULT 'x');
SELECT protect_api_keys('"a ""b"" ''c'' %s"', 'k %s \ "x"', 'h %s ''');
SELECT protect_api_keys('"a ""b"" ''c'' %s"', 'no %s');
DROP TABLE "a ""b"" 'c' %s";
DROP FUNCTION probe.hostile, probe.hostile_all;
RESET client_min_messages;

-- text, varchar with and without a length, char, domains over them
CREATE DOMAIN short AS varchar(40);
CREATE DOMAIN shorter AS short CHECK (VALUE ~ '^key');
CREATE DOMAIN padded AS char(12);
CREATE DOMAIN digest AS text CHECK (VALUE ~ '^[0-9a-f]{64}$');
CREATE FUNCTION probe.of_type(key_type text, hash_type text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE format('CREATE TABLE typed (id integer PRIMARY KEY, api_key %s, api_key_hash %s)', key_type, hash_type);
    INSERT INTO typed VALUES (1, 'key-1');
    PERFORM protect_api_keys('typed');
    UPDATE typed SET api_key = api_key;
    INSERT INTO typed VALUES (2, 'key-2');
    INSERT INTO typed VALUES (2, 'key-2') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
    MERGE INTO typed AS t USING (VALUES (3, 'key-3'), (1, NULL)) AS n (id, key) ON t.id = n.id WHEN MATCHED THEN UPDATE SET api_key = n.key WHEN NOT MATCHED THEN INSERT (id, api_key) VALUES (n.id, n.key);
    UPDATE typed SET api_key = 'key-4', id = 4 WHERE id = 3;
    SELECT format('%s rows, %s plaintext, %s equal, %s match, length %s', count(*), count(api_key), count(*) FILTER (WHERE api_key_hash = hash_api_key('key-' || id)), count(*) FILTER (WHERE verify_api_key('key-' || id, api_key_hash::text)), max(octet_length(api_key_hash::text))) INTO answer FROM typed;
    DROP TABLE typed;
    RETURN answer;
END
$$;
SET client_min_messages = warning;
SELECT probe.of_type('text', 'text');
SELECT probe.of_type('text COLLATE "C"', 'text COLLATE "C"');
SELECT probe.of_type('varchar', 'varchar(64)');
SELECT probe.of_type('varchar(5)', 'varchar(100)');
SELECT probe.of_type('char(5)', 'char(64)');
SELECT probe.of_type('char(40)', 'char(100)');
SELECT probe.of_type('bpchar', 'bpchar');
SELECT probe.of_type('short', 'text');
SELECT probe.of_type('shorter', 'digest');
SELECT probe.of_type('padded', 'digest');
DROP FUNCTION probe.of_type;
-- a key that a domain or a length refuses never reaches the trigger, and PostgreSQL's message shows no key
CREATE TABLE clients (id integer, api_key shorter);
SELECT protect_api_keys('clients');
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', 'marker_1');
SELECT probe.answer('INSERT INTO clients VALUES (1, $1)', repeat('key', 20));
DROP TABLE clients;
DROP DOMAIN shorter, short, padded, digest;
RESET client_min_messages;
