-- search_path, permissions, row security: nobody gets more than they have
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

-- a schema before pg_catalog, full of traps that cry out
CREATE SCHEMA evil;
CREATE FUNCTION evil.trap(what text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'caught by %', what; RETURN true; END $$;
DO $$
DECLARE
    f record;
    o record;
BEGIN
    -- every built-in function of one or two arguments that SQL of ours may call
    FOR f IN SELECT DISTINCT p.oid, p.proname, pg_get_function_identity_arguments(p.oid) AS arguments, p.prorettype::regtype AS result, p.proretset FROM pg_proc AS p
              WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0 AND 2281 <> ALL (p.proargtypes) AND p.prorettype NOT IN (2281, 2278) AND NOT p.proretset AND p.proargmodes IS NULL
                AND p.proname IN ('format_type', 'quote_ident', 'quote_literal', 'count', 'coalesce', 'left', 'repeat', 'length', 'octet_length', 'lower', 'array_to_string', 'pg_get_expr', 'pg_relation_size', 'pg_size_pretty', 'pg_partition_root', 'has_column_privilege', 'has_schema_privilege', 'pg_is_other_temp_schema', 'cardinality', 'format', 'name', 'text', 'bool', 'int4', 'textcat', 'texteq', 'nameeq', 'oideq', 'regclass', 'like', 'bpchar', 'varchar')
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', f.proname, f.arguments, f.result, format('BEGIN PERFORM evil.trap(%L); RAISE EXCEPTION %L; END', f.proname, 'trap'));
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE '% %', f.proname, SQLERRM;
        END;
    END LOOP;
    -- and every operator between the types that we compare
    FOR o IN SELECT DISTINCT oprname, oprleft::regtype AS l, oprright::regtype AS r FROM pg_operator
              WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprname IN ('=', '<>', '<', '>', '<=', '>=', '||', '~~', '!~~', '~', '!~', '&', '*', '+', '-')
                AND oprleft::regtype::text IN ('text', 'name', 'oid', 'integer', 'smallint', 'bigint', '"char"', 'boolean', 'character', 'bytea') AND oprright::regtype::text IN ('text', 'name', 'oid', 'integer', 'smallint', 'bigint', '"char"', 'boolean', 'character', 'bytea')
    LOOP
        EXECUTE format('CREATE FUNCTION evil.%I(%s, %s) RETURNS boolean LANGUAGE plpgsql AS %L', 'op' || o.oprname, o.l, o.r, format('BEGIN PERFORM evil.trap(%L); RAISE EXCEPTION %L; END', 'operator ' || o.oprname, 'trap'));
        EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.%I)', o.oprname, o.l, o.r, 'op' || o.oprname);
    END LOOP;
END
$$;
-- ours, too, and tables and types that look like the catalogue's
CREATE FUNCTION evil.hash_api_key(text) RETURNS text LANGUAGE sql AS $$ SELECT 'stolen'::text $$;
CREATE FUNCTION evil.verify_api_key(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE FUNCTION evil.api_key_fault(text) RETURNS text LANGUAGE sql AS $$ SELECT NULL::text $$;
CREATE FUNCTION evil.hash_api_key_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE VIEW evil.pg_class AS SELECT * FROM pg_catalog.pg_class WHERE false;
CREATE VIEW evil.pg_attribute AS SELECT attrelid, attname, attnum FROM pg_catalog.pg_attribute WHERE false;
CREATE VIEW evil.pg_trigger AS SELECT * FROM pg_catalog.pg_trigger WHERE false;
CREATE DOMAIN evil.text AS pg_catalog.text CHECK (evil.trap('type text'));
CREATE TABLE public.clients (id integer PRIMARY KEY, name text, api_key text);
INSERT INTO clients VALUES (1, 'one', 'key-1');

SET search_path = evil, pg_catalog;
SET client_min_messages = warning;
-- the traps are sharp
SELECT 'a'::pg_catalog.text = 'b'::pg_catalog.text;
SELECT quote_ident('a'::pg_catalog.text);
SELECT 'a'::text;
SELECT public.verify_api_key('key-1', public.hash_api_key('key-1')), public.verify_api_key('key-2', public.hash_api_key('key-1')), public.verify_api_key('key-1', public.hash_api_key('key-1', 'bcrypt', 4));
SELECT public.protect_api_keys('public.clients');
SELECT public.protect_api_keys('public.clients', 'api_key', 'api_key_hash', 'bcrypt', 4);
SELECT public.protect_api_keys('public.clients');
SELECT public.protect_api_keys('public.clients');
INSERT INTO public.clients VALUES (2, 'two', 'key-2');
UPDATE public.clients SET api_key = api_key;
INSERT INTO public.clients VALUES (2, 'two', 'key-2b') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
MERGE INTO public.clients AS c USING (VALUES (3, 'three', 'key-3'), (1, 'one', NULL)) AS n (id, name, api_key) ON c.id OPERATOR(pg_catalog.=) n.id
    WHEN MATCHED THEN UPDATE SET api_key = n.api_key
    WHEN NOT MATCHED THEN INSERT (id, name, api_key) VALUES (n.id, n.name, n.api_key);
SELECT protected_table, plaintext, hashed, triggers_in_force FROM public.api_key_status;
SELECT count(*) FROM public.api_key_preflight('public.clients', 'api_key', 'api_key_hash', 'sha256', NULL);
SELECT public.unprotect_api_keys('public.clients');
SELECT public.protect_api_keys('public.clients');
RESET search_path;
SELECT id, api_key, api_key_hash = hash_api_key('key-' || id) FROM clients ORDER BY id;
SELECT tgfoid::regprocedure, count(*) FROM pg_trigger WHERE tgrelid = 'clients'::regclass GROUP BY 1;
-- temporary tables in the way
CREATE TEMP TABLE pg_class (oid oid);
CREATE TEMP TABLE pg_trigger (oid oid);
SELECT protected_table, plaintext, triggers_in_force FROM api_key_status;
SELECT protect_api_keys('clients');
DROP TABLE pg_temp.pg_class, pg_temp.pg_trigger;
DROP TABLE clients;
SET client_min_messages = error;
DROP SCHEMA evil CASCADE;

-- who may what
CREATE ROLE regress_owner;
CREATE ROLE regress_app;
CREATE ROLE regress_stranger;
CREATE SCHEMA app AUTHORIZATION regress_owner;
SET ROLE regress_owner;
CREATE TABLE app.clients (id integer PRIMARY KEY, name text, api_key text);
INSERT INTO app.clients VALUES (1, 'one', 'key-1');
RESET client_min_messages;
-- no superuser is needed to protect one's own table
SELECT protect_api_keys('app.clients');
SELECT protected_table, plaintext, hashed FROM api_key_status;
SET client_min_messages = warning;
GRANT USAGE ON SCHEMA app TO regress_app;
GRANT SELECT (id, name, api_key_hash), INSERT (id, name, api_key), UPDATE (name, api_key) ON app.clients TO regress_app;
GRANT SELECT ON app.clients TO regress_stranger;
-- an application that may not read keys may write them
SET ROLE regress_app;
INSERT INTO app.clients VALUES (2, 'two', 'key-2');
UPDATE app.clients SET api_key = 'key-2b' WHERE id = 2;
SELECT name FROM app.clients WHERE api_key_hash = hash_api_key('key-2b');
SELECT api_key FROM app.clients;
INSERT INTO app.clients (id, api_key_hash) VALUES (3, hash_api_key('key-3'));
SELECT protect_api_keys('app.clients', algorithm => 'bcrypt');
SELECT unprotect_api_keys('app.clients');
ALTER TABLE app.clients DISABLE TRIGGER "!pg_api_key_first";
SET session_replication_role = replica;
SELECT protected_table, key_column, algorithm, plaintext, hashed, triggers_in_force FROM api_key_status;
-- one without the right to enter the schema sees that there is a table, and no number
SET ROLE regress_stranger;
SELECT protected_table, plaintext, hashed FROM api_key_status;
SELECT protect_api_keys('app.clients');
-- a trigger that a stranger's table borrows tells nothing and breaks nothing
CREATE TEMP TABLE mine (a text, b text);
CREATE TRIGGER "!pg_api_key_first" BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION hash_api_key_trigger('a', 'b');
INSERT INTO mine VALUES ('key', NULL);
SELECT a, b = hash_api_key('key') FROM mine;
RESET ROLE;
SELECT protected_table, plaintext, hashed, triggers_in_force FROM api_key_status ORDER BY 1;
DROP TABLE mine;
-- row security applies to look-ups, to counts and to writes
INSERT INTO app.clients VALUES (10, 'ten', 'key-10'), (11, 'eleven', 'key-11');
ALTER TABLE app.clients ENABLE ROW LEVEL SECURITY;
CREATE POLICY small ON app.clients USING (id < 11);
SET ROLE regress_app;
SELECT name FROM app.clients WHERE api_key_hash = hash_api_key('key-10');
SELECT name FROM app.clients WHERE api_key_hash = hash_api_key('key-11');
SELECT count(*) FROM app.clients WHERE verify_api_key('key-11', api_key_hash);
SELECT probe.answer('INSERT INTO app.clients VALUES (12, ''twelve'', $1)', 'marker_1');
INSERT INTO app.clients VALUES (9, 'nine', 'key-9');
SELECT name FROM app.clients WHERE api_key_hash = hash_api_key('key-9');
RESET ROLE;
-- what one is not meant to see does not reach an error through verify_api_key: it is not leakproof
CREATE FUNCTION show(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$;
SET ROLE regress_app;
RESET client_min_messages;
SELECT name FROM app.clients WHERE show(name) AND verify_api_key('key-10', api_key_hash);
RESET ROLE;
SET client_min_messages = warning;
DROP FUNCTION show;
-- functions can be taken from the public as any other
REVOKE EXECUTE ON FUNCTION hash_api_key_trigger() FROM PUBLIC;
SET ROLE regress_app;
INSERT INTO app.clients VALUES (8, 'eight', 'key-8');
SELECT name FROM app.clients WHERE api_key_hash = hash_api_key('key-8');
RESET ROLE;
GRANT EXECUTE ON FUNCTION hash_api_key_trigger() TO PUBLIC;
DROP SCHEMA app CASCADE;
DROP ROLE regress_owner, regress_app, regress_stranger;
