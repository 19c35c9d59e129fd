-- migrate_api_keys, check_api_keys, api_key_quarantine
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
-- the NOTICE at the end holds the time
SET client_min_messages = warning;
CREATE SCHEMA migration;
CREATE SCHEMA evil;
CREATE SCHEMA unseen;
SET search_path = migration, public;

-- a table is told what will happen, protected, migrated
CREATE TABLE clients (id integer PRIMARY KEY, name text, api_key text UNIQUE);
INSERT INTO clients SELECT n, 'n' || n, 'key-' || n FROM generate_series(1, 2500) AS n;
INSERT INTO clients VALUES (0, 'none', NULL);
SELECT finding, keys, estimate > '0' FROM check_api_keys('clients');
SELECT probe.answer($$CALL migrate_api_keys('migration.clients')$$);
SELECT count(*) FROM clients WHERE api_key = 'key-' || id;
SELECT protect_api_keys('clients');
SELECT finding, keys FROM check_api_keys('clients');
CALL migrate_api_keys('clients');
SELECT count(*), count(api_key), count(api_key_hash), count(*) FILTER (WHERE api_key_hash = hash_api_key('key-' || id)) FROM clients;
SELECT id, name FROM find_by_api_key(NULL::clients, 'key-77');
SELECT finding, keys, estimate FROM check_api_keys('clients');
SELECT plaintext, hashed FROM api_key_status WHERE protected_table = 'clients'::regclass;
-- once more changes nothing
CREATE TABLE before AS SELECT ctid AS row_id, * FROM clients;
CALL migrate_api_keys('clients');
SELECT count(*) FROM clients AS c JOIN before AS b ON c.ctid = b.row_id AND c.api_key_hash IS NOT DISTINCT FROM b.api_key_hash;
DROP TABLE before;

-- arguments
SELECT probe.answer($$CALL migrate_api_keys('migration.clients', 0)$$);
SELECT probe.answer($$CALL migrate_api_keys('migration.clients', NULL)$$);
SELECT probe.answer($$CALL migrate_api_keys(NULL)$$);
SELECT probe.answer($$CALL migrate_api_keys('migration.clients', threads => -1)$$);
SELECT probe.answer($$CALL migrate_api_keys('migration.clients', pause => '-1 s')$$);
SELECT probe.answer($$CALL migrate_api_keys('migration.nowhere')$$);
SELECT probe.answer($$CALL migrate_api_keys('migration.clients_pkey')$$);
CALL migrate_api_keys('clients', batch_size => 2147483647, threads => 2147483647, pause => '1 ms');
DROP TABLE clients;

-- every size of batch does the same
CREATE TABLE clients (id integer, api_key text, filler text);
SELECT protect_api_keys('clients');
ALTER TABLE clients DISABLE TRIGGER USER;
INSERT INTO clients SELECT n, 'key-' || n, repeat('f', 500) FROM generate_series(1, 300) AS n;
DELETE FROM clients WHERE id % 3 = 0 OR id < 100;
SELECT probe.answer($$CALL migrate_api_keys('migration.clients')$$); -- not while the triggers are off
SELECT protect_api_keys('clients');
CALL migrate_api_keys('clients', 1);
SELECT count(*), count(api_key), count(*) FILTER (WHERE api_key_hash = hash_api_key('key-' || id)) FROM clients;
DROP TABLE clients;

-- inside a transaction PostgreSQL refuses, and nothing is lost
CREATE TABLE clients (id integer, api_key text);
INSERT INTO clients VALUES (1, 'key-1');
SELECT protect_api_keys('clients');
BEGIN;
CALL migrate_api_keys('clients');
ROLLBACK;
DO $$BEGIN CALL migrate_api_keys('clients'); EXCEPTION WHEN invalid_transaction_termination THEN RAISE WARNING '%', SQLERRM; END$$;
TABLE clients;
SHOW search_path;
-- in a DO block alone it may commit
DO $$BEGIN CALL migrate_api_keys('clients'); END$$;
SELECT id, api_key, api_key_hash = hash_api_key('key-1') FROM clients;
SHOW search_path;
DROP TABLE clients;

-- quarantine: what can't be hashed is told before, and stays as it is
CREATE TABLE clients (id integer, api_key text, api_key_hash text);
INSERT INTO clients (id, api_key) VALUES
    (1, 'good-1'), (2, ''), (3, 'blank inside'), (4, ' blank-before'), (5, E'newline\n'), (6, 'nön-ascii'), (7, repeat('k', 72)), (8, repeat('k', 73)),
    (9, repeat('k', 1025)), (10, '$2a$04$abcdefghijklmnopqrstuuOgLv.BXBw2MZVHzHzdSRWDWS8mIoGO.'), (11, 'same-key'), (12, 'same-key'), (13, 'same-key'), (14, NULL),
    (15, '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'), (16, E'\ttab'), (17, 'held-elsewhere'), (19, 'own-hash'), (20, 'not-a-hash'), (21, 'other-hash'), (22, 'foreign');
INSERT INTO clients VALUES (18, NULL, hash_api_key('held-elsewhere'));
UPDATE clients SET api_key_hash = hash_api_key('own-hash') WHERE id = 19;
UPDATE clients SET api_key_hash = 'n/a' WHERE id = 20;
UPDATE clients SET api_key_hash = hash_api_key('in-use') WHERE id = 21;
UPDATE clients SET api_key_hash = hash_api_key('foreign', 'bcrypt', 4) WHERE id = 22;
CREATE TABLE before AS SELECT *, ctid AS row_id FROM clients;
SELECT finding, keys FROM check_api_keys('clients');
SELECT id, reason FROM api_key_quarantine('clients') JOIN before USING (row_id) ORDER BY id;
CREATE TABLE findings AS SELECT finding, keys FROM check_api_keys('clients');
CREATE TABLE rows AS SELECT * FROM api_key_quarantine('clients');
SET client_min_messages = error;
SELECT protect_api_keys('clients');
SET client_min_messages = warning;
(SELECT finding, keys FROM check_api_keys('clients') EXCEPT TABLE findings) UNION ALL (TABLE findings EXCEPT SELECT finding, keys FROM check_api_keys('clients'));
(SELECT * FROM api_key_quarantine('clients') EXCEPT TABLE rows) UNION ALL (TABLE rows EXCEPT SELECT * FROM api_key_quarantine('clients'));
CALL migrate_api_keys('clients');
-- left are just these, untouched
SELECT count(*), bool_and(c.ctid = b.row_id AND c.api_key = b.api_key AND c.api_key_hash IS NOT DISTINCT FROM b.api_key_hash) FROM rows JOIN before AS b USING (row_id) JOIN clients AS c USING (id);
(SELECT * FROM api_key_quarantine('clients') EXCEPT TABLE rows) UNION ALL (TABLE rows EXCEPT SELECT * FROM api_key_quarantine('clients'));
SELECT finding, keys FROM check_api_keys('clients') WHERE finding = 'ready to migrate';
SELECT c.id FROM clients AS c JOIN before AS b USING (id) WHERE c.api_key IS NULL AND verify_api_key(b.api_key, c.api_key_hash) ORDER BY id;
-- and no key is lost
SELECT b.id FROM before AS b WHERE b.api_key IS NOT NULL AND NOT EXISTS (SELECT FROM clients AS c WHERE c.id = b.id AND (c.api_key = b.api_key OR verify_api_key(b.api_key, c.api_key_hash)));
SELECT probe.answer('SELECT string_agg(id::text, $$ $$) FROM find_by_api_key(NULL::migration.clients, $1)', key) FROM unnest(ARRAY['good-1', 'own-hash', 'not-a-hash', 'foreign', 'in-use', 'other-hash']) AS key;
CALL migrate_api_keys('clients');
-- after their owners got new ones, nothing is left
UPDATE clients SET api_key = 'new-' || id WHERE api_key IS NOT NULL;
CALL migrate_api_keys('clients');
SELECT count(api_key), count(DISTINCT api_key_hash) FROM clients;
DROP TABLE clients, before, findings, rows;

-- the same for bcrypt, which takes 72 bytes, and equal keys
CREATE TABLE clients (id integer, api_key text, api_key_hash text);
INSERT INTO clients VALUES (1, repeat('k', 72), NULL), (2, repeat('k', 73), NULL), (3, 'same-key', NULL), (4, 'same-key', NULL), (5, 'not a key', NULL), (6, 'weak', hash_api_key('weak', 'bcrypt', 4)), (7, 'kept', hash_api_key('kept', 'bcrypt', 5)), (8, 'other', hash_api_key('in-use', 'bcrypt', 5)), (9, 'sha', hash_api_key('sha'));
SELECT finding, keys, estimate > '0' FROM check_api_keys('clients', algorithm => 'bcrypt', cost => 5);
CREATE TABLE before AS TABLE clients;
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 5);
SELECT finding, keys FROM check_api_keys('clients');
CALL migrate_api_keys('clients', threads => 2);
SELECT id, c.api_key IS NULL, left(c.api_key_hash, 7), c.api_key_hash = b.api_key_hash AS kept, verify_api_key(b.api_key, c.api_key_hash), c.api_key_tag = api_key_tag(b.api_key) FROM clients AS c JOIN before AS b USING (id) ORDER BY id;
SELECT id FROM find_by_api_key(NULL::clients, 'same-key') ORDER BY id;
DROP TABLE clients, before;
-- a stored hash beyond the cost limit stops it, with the setting's name, before anything is touched
CREATE TABLE clients (id integer, api_key text, api_key_hash text);
INSERT INTO clients VALUES (1, 'costly', '$2a$15$abcdefghijklmnopqrstuuOgLv.BXBw2MZVHzHzdSRWDWS8mIoGO.');
SELECT protect_api_keys('clients');
CALL migrate_api_keys('clients');
SELECT id, api_key FROM clients;
DROP TABLE clients;

-- partitions of partitions, in another order of columns, and one that is no use
CREATE TABLE parts (id integer, region text, api_key text) PARTITION BY LIST (region);
CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu') PARTITION BY RANGE (id);
CREATE TABLE parts_eu_1 PARTITION OF parts_eu FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_eu_2 (gone integer, api_key text, region text, id integer);
ALTER TABLE parts_eu_2 DROP COLUMN gone;
ALTER TABLE parts_eu ATTACH PARTITION parts_eu_2 FOR VALUES FROM (100) TO (200);
CREATE TABLE parts_empty PARTITION OF parts FOR VALUES IN ('none') PARTITION BY RANGE (id);
CREATE TABLE parts_other PARTITION OF parts DEFAULT;
INSERT INTO parts SELECT n, (ARRAY['eu', 'us'])[n % 2 + 1], 'key-' || n FROM generate_series(1, 199) AS n;
INSERT INTO parts VALUES (50, 'eu', 'not a key'), (150, 'eu', 'not a key'), (51, 'eu', 'same-key'), (151, 'eu', 'same-key');
SELECT finding, keys FROM check_api_keys('parts');
SELECT part, count(*), reason FROM api_key_quarantine('parts') GROUP BY part, reason ORDER BY part::text;
SELECT protect_api_keys('parts');
SELECT finding, keys FROM check_api_keys('parts');
SELECT probe.answer($$CALL migrate_api_keys('migration.parts_eu_1')$$);
CALL migrate_api_keys('parts', 10);
SELECT tableoid::regclass, count(*), count(api_key), count(*) FILTER (WHERE api_key_hash = hash_api_key('key-' || id)) FROM parts GROUP BY tableoid ORDER BY tableoid::regclass::text;
SELECT part, count(*), reason FROM api_key_quarantine('parts') GROUP BY part, reason ORDER BY part::text;
DROP TABLE parts;
CREATE TABLE parts (id integer, api_key text) PARTITION BY LIST (id);
SELECT protect_api_keys('parts');
SELECT finding, keys FROM check_api_keys('parts');
CALL migrate_api_keys('parts');
DROP TABLE parts;

-- types of columns, and collations that differ
CREATE DOMAIN key_domain AS varchar(80) COLLATE "POSIX";
CREATE PROCEDURE migrate_types(algorithm text) LANGUAGE plpgsql AS $$
DECLARE
    types text;
    n integer := 0;
    report record;
BEGIN
    FOREACH types IN ARRAY ARRAY['varchar(64), api_key_hash varchar(64)', 'char(40), api_key_hash char(70)', 'key_domain, api_key_hash key_domain', 'text COLLATE "POSIX", api_key_hash text COLLATE "C"', 'text COLLATE "C", api_key_hash text', 'text COLLATE "C"'] LOOP
        n := n + 1;
        EXECUTE format('CREATE TABLE typed_%s (id integer, api_key %s)', n, types);
        EXECUTE format('INSERT INTO typed_%s (id, api_key) VALUES (1, %L), (2, %2$L), (3, %L), (4, %L)', n, 'key-1', 'key-3', 'not a key');
        PERFORM protect_api_keys('typed_' || n, algorithm => algorithm, cost => 4);
        COMMIT;
        CALL migrate_api_keys('typed_' || n);
        EXECUTE format('SELECT count(api_key) AS plaintext, string_agg(id::text, $1 ORDER BY id) FILTER (WHERE verify_api_key($2, api_key_hash)) AS one, string_agg(id::text, $1 ORDER BY id) FILTER (WHERE verify_api_key($3, api_key_hash)) AS three FROM typed_%s', n) INTO report USING ' ', 'key-1', 'key-3';
        RAISE WARNING '%: %', types, report;
        EXECUTE format('DROP TABLE typed_%s', n);
    END LOOP;
END
$$;
CALL migrate_types('sha256');
CALL migrate_types('bcrypt');
DROP PROCEDURE migrate_types;

-- names
CREATE SCHEMA "Evil "" 100% %I'; --";
CREATE TABLE "Evil "" 100% %I'; --"."t""; DROP TABLE %s; $1" (id integer, "key' || ""%L"" $1 --" text, "hash%1$s $$ '" text);
INSERT INTO "Evil "" 100% %I'; --"."t""; DROP TABLE %s; $1" VALUES (1, 'key-1'), (2, 'not a key');
SELECT finding, keys FROM check_api_keys('"Evil "" 100% %I''; --"."t""; DROP TABLE %s; $1"', 'key'' || "%L" $1 --', 'hash%1$s $$ ''');
SELECT protect_api_keys('"Evil "" 100% %I''; --"."t""; DROP TABLE %s; $1"', 'key'' || "%L" $1 --', 'hash%1$s $$ ''');
CALL migrate_api_keys('"Evil "" 100% %I''; --"."t""; DROP TABLE %s; $1"');
TABLE "Evil "" 100% %I'; --"."t""; DROP TABLE %s; $1";
SELECT protect_api_keys('"Evil "" 100% %I''; --"."t""; DROP TABLE %s; $1"', 'key'' || "%L" $1 --', 'hash%1$s $$ ''', 'bcrypt', 4);
ALTER TABLE "Evil "" 100% %I'; --"."t""; DROP TABLE %s; $1" DISABLE TRIGGER USER;
INSERT INTO "Evil "" 100% %I'; --"."t""; DROP TABLE %s; $1" VALUES (3, 'key-3');
SELECT protect_api_keys('"Evil "" 100% %I''; --"."t""; DROP TABLE %s; $1"', 'key'' || "%L" $1 --', 'hash%1$s $$ ''', 'bcrypt', 4);
CALL migrate_api_keys('"Evil "" 100% %I''; --"."t""; DROP TABLE %s; $1"');
SELECT id, verify_api_key('key-3', "hash%1$s $$ '") FROM "Evil "" 100% %I'; --"."t""; DROP TABLE %s; $1" ORDER BY id;
DROP SCHEMA "Evil "" 100% %I'; --" CASCADE;
-- columns that could hide ours
CREATE TABLE clients (id integer, api_key text, ctid_ text, t text, batch text, row_id text, digest text, hash text, part text, reason text, one text, key_column text, target text);
INSERT INTO clients (id, api_key) VALUES (1, 'key-1'), (2, 'not a key'), (3, 'key-3');
SELECT finding, keys FROM check_api_keys('clients');
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 4);
CALL migrate_api_keys('clients');
SELECT id, api_key, verify_api_key('key-' || id, api_key_hash) FROM clients ORDER BY id;
DROP TABLE clients;

-- rows beside the page, a dropped column, a generated one, a column that is updated by a trigger
CREATE TABLE clients (id integer, gone text, api_key text, photo text, twice integer GENERATED ALWAYS AS (id * 2) STORED, changed integer DEFAULT 0);
ALTER TABLE clients ALTER COLUMN photo SET STORAGE EXTERNAL, DROP COLUMN gone;
CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.changed := OLD.changed + 1; RETURN NEW; END$$;
CREATE TRIGGER count_change BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION count_change();
INSERT INTO clients (id, api_key, photo) SELECT n, repeat('k', 1000) || n, repeat('photo', 5000) FROM generate_series(1, 50) AS n;
SET client_min_messages = error;
SELECT protect_api_keys('clients');
SET client_min_messages = warning;
CALL migrate_api_keys('clients', 7);
SELECT count(*), count(api_key), bool_and(api_key_hash = hash_api_key(repeat('k', 1000) || id) AND photo = repeat('photo', 5000) AND twice = id * 2 AND changed = 1) FROM clients;
DROP TABLE clients;

-- rows that the table itself refuses are passed over and told, and stop nothing
CREATE TABLE clients (id integer, api_key text);
INSERT INTO clients SELECT n, 'key-' || n FROM generate_series(1, 20) AS n;
ALTER TABLE clients ADD CONSTRAINT even CHECK (id % 7 <> 0) NOT VALID;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.id = 5 THEN RAISE EXCEPTION 'not this one'; ELSIF NEW.id = 6 THEN RETURN NULL; END IF; RETURN NEW; END$$;
CREATE TRIGGER refuse BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION refuse();
SET client_min_messages = error;
SELECT protect_api_keys('clients');
SET client_min_messages = warning;
CALL migrate_api_keys('clients');
SELECT id, api_key, api_key_hash FROM clients WHERE api_key IS NOT NULL ORDER BY id;
SELECT count(*) FROM clients WHERE api_key_hash = hash_api_key('key-' || id);
DROP TRIGGER refuse ON clients;
ALTER TABLE clients DROP CONSTRAINT even;
CALL migrate_api_keys('clients');
SELECT count(*) FROM clients WHERE api_key_hash = hash_api_key('key-' || id);
DROP TABLE clients;

-- the caller's search_path decides for the table's triggers, deferred ones too, and for nothing else
CREATE FUNCTION evil.equal(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil'; END$$;
CREATE FUNCTION evil.compare(tid, tid) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil'; END$$;
CREATE FUNCTION evil.calculate(bigint, bigint) RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil'; END$$;
CREATE FUNCTION evil.calculate(integer, integer) RETURNS integer LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil'; END$$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
CREATE OPERATOR evil.= (LEFTARG = tid, RIGHTARG = tid, FUNCTION = evil.compare);
CREATE OPERATOR evil.>= (LEFTARG = tid, RIGHTARG = tid, FUNCTION = evil.compare);
CREATE OPERATOR evil.< (LEFTARG = tid, RIGHTARG = tid, FUNCTION = evil.compare);
CREATE OPERATOR evil.+ (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.calculate);
CREATE OPERATOR evil.+ (LEFTARG = integer, RIGHTARG = integer, FUNCTION = evil.calculate);
CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil'; END$$;
CREATE FUNCTION evil.unnest(anyarray) RETURNS SETOF text LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil'; END$$;
CREATE FUNCTION evil.hash_api_key(text) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil'; END$$;
CREATE FUNCTION evil.count(text) RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil'; END$$;
CREATE FUNCTION evil.format(text, text) RETURNS text LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil'; END$$;
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil'; END$$;
CREATE DOMAIN evil.text AS pg_catalog.text CHECK (VALUE = 'evil');
CREATE DOMAIN evil.regclass AS pg_catalog.regclass CHECK (VALUE IS NULL);
CREATE DOMAIN evil.timestamptz AS pg_catalog.timestamptz CHECK (VALUE IS NULL);
CREATE TABLE evil.pg_class (relname name);
CREATE TABLE unseen.clients (id integer, api_key text);
CREATE TABLE unseen.log (path text, id integer);
CREATE FUNCTION unseen.log() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO log VALUES (pg_catalog.current_setting('search_path'), NEW.id); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER log AFTER UPDATE ON unseen.clients DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION unseen.log();
CREATE TRIGGER log_now AFTER UPDATE ON unseen.clients FOR EACH ROW EXECUTE FUNCTION unseen.log();
INSERT INTO unseen.clients VALUES (1, 'key-1'), (2, 'not a key'), (3, 'key-1'), (4, 'key-4');
SET client_min_messages = error;
SELECT protect_api_keys('unseen.clients');
SET client_min_messages = warning;
SET search_path = evil, pg_catalog, unseen, public;
CALL public.migrate_api_keys('unseen.clients');
SHOW search_path;
SET search_path = migration, public;
SELECT id, api_key, api_key_hash = hash_api_key('key-' || id) FROM unseen.clients ORDER BY id;
TABLE unseen.log;
SET client_min_messages = error;
SELECT protect_api_keys('unseen.clients', algorithm => 'bcrypt', cost => 4);
SET client_min_messages = warning;
SET search_path = evil, pg_catalog, unseen, public;
CALL public.migrate_api_keys('unseen.clients');
SET search_path = migration, public;
SELECT id, api_key, verify_api_key('key-1', api_key_hash) FROM unseen.clients ORDER BY id;

-- who may
CREATE ROLE migrator;
CREATE TABLE clients (id integer, api_key text);
INSERT INTO clients VALUES (1, 'key-1');
SELECT protect_api_keys('clients');
GRANT USAGE ON SCHEMA migration TO migrator;
SET ROLE migrator;
CALL migrate_api_keys('clients');
SELECT check_api_keys('clients');
SELECT api_key_quarantine('clients');
RESET ROLE;
GRANT SELECT, UPDATE ON clients TO migrator;
SET ROLE migrator;
CALL migrate_api_keys('clients');
RESET ROLE;
SELECT id, api_key, api_key_hash = hash_api_key('key-1') FROM clients;
DROP TABLE clients;
DROP OWNED BY migrator;
DROP ROLE migrator;

-- temporary and unlogged tables
CREATE TEMP TABLE clients AS SELECT n AS id, 'key-' || n AS api_key FROM generate_series(1, 10) AS n;
SELECT protect_api_keys('clients');
CALL migrate_api_keys('clients');
SELECT count(*) FILTER (WHERE api_key_hash = hash_api_key('key-' || id)) FROM clients;
DROP TABLE clients;
CREATE UNLOGGED TABLE clients AS SELECT n AS id, 'key-' || n AS api_key FROM generate_series(1, 10) AS n;
SELECT protect_api_keys('clients');
CALL migrate_api_keys('clients');
SELECT count(*) FILTER (WHERE api_key_hash = hash_api_key('key-' || id)) FROM clients;
DROP TABLE clients;

-- a trigger refuses a row by an SQLSTATE of its own, another only at the COMMIT
CREATE TABLE clients AS SELECT n AS id, 'key-' || n AS api_key FROM generate_series(1, 50) AS n;
CREATE FUNCTION refuse_seven() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.id = 7 THEN RAISE invalid_parameter_value USING MESSAGE = 'no 7'; END IF; RETURN NEW; END$$;
CREATE FUNCTION refuse_nine() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.id = 9 THEN RAISE 'no 9'; END IF; RETURN NULL; END$$;
CREATE TRIGGER refuse_seven BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION refuse_seven();
CREATE CONSTRAINT TRIGGER refuse_nine AFTER UPDATE ON clients DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_nine();
SELECT protect_api_keys('clients');
CALL migrate_api_keys('clients');
SELECT array_agg(id ORDER BY id) FROM clients WHERE api_key IS NOT NULL;
DROP TABLE clients;
-- but one that refuses every row for want of a privilege is an error
CREATE TABLE clients AS SELECT n AS id, 'key-' || n AS api_key FROM generate_series(1, 50) AS n;
CREATE FUNCTION not_allowed() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE insufficient_privilege; END$$;
CREATE TRIGGER not_allowed BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION not_allowed();
SELECT protect_api_keys('clients');
SELECT probe.answer($$CALL migrate_api_keys('migration.clients')$$);
DROP TABLE clients;
-- rows that row-level security hides would stay in plaintext without a word
CREATE TABLE clients (id integer, api_key text);
INSERT INTO clients VALUES (1, 'key-1'), (2, 'key-2');
CREATE ROLE tenant;
GRANT USAGE ON SCHEMA migration, probe TO tenant;
ALTER TABLE clients OWNER TO tenant;
ALTER TABLE clients ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY first_row ON clients USING (id = 1);
SELECT protect_api_keys('clients');
SET ROLE tenant;
SELECT probe.answer($$CALL migrate_api_keys('migration.clients')$$);
SELECT plaintext, hashed FROM api_key_status WHERE protected_table = 'clients'::regclass;
RESET ROLE;
ALTER TABLE clients NO FORCE ROW LEVEL SECURITY;
SET ROLE tenant;
CALL migrate_api_keys('clients');
SELECT plaintext, hashed FROM api_key_status WHERE protected_table = 'clients'::regclass;
RESET ROLE;
DROP TABLE clients;
DROP OWNED BY tenant;
DROP ROLE tenant;
-- inheritance children are counted too
CREATE TABLE clients (id integer, api_key text);
SELECT protect_api_keys('clients');
CREATE TABLE child () INHERITS (clients);
INSERT INTO child (id, api_key) VALUES (1, 'of-the-child');
CALL migrate_api_keys('clients');
DROP TABLE clients, child;

RESET search_path;
RESET client_min_messages;
SET client_min_messages = error;
DROP SCHEMA migration, evil, unseen CASCADE;
