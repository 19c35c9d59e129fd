-- what the audit finds, provoked one by one; it never shows a key or a hash
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
SET client_min_messages = error;
-- severity, finding and object of all that is new since the first look; not the server's settings,
-- and not dead rows, which any page access may prune
CREATE TABLE probe.seen (severity text, finding text, object text, detail text, remedy text);
CREATE FUNCTION probe.news(target text DEFAULT 'clients') RETURNS TABLE (severity text, finding text, object text) LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMP TABLE now ON COMMIT DROP AS
        SELECT * FROM audit_api_keys(target::regclass) AS a
         WHERE a.finding NOT IN ('statement log', 'parameter log', 'auto_explain', 'pgaudit', 'pg_stat_statements', 'WAL and backups', 'dead bytes', 'dead rows', 'open snapshot');
    RETURN QUERY SELECT a.severity, a.finding, regexp_replace(a.object, 'pg_toast_[0-9]+', 'pg_toast_N') FROM now AS a
                 EXCEPT SELECT s.severity, s.finding, s.object FROM probe.seen AS s ORDER BY 2, 3, 1;
    IF EXISTS (SELECT FROM now AS a WHERE a::text ~ 'secret|[0-9a-f]{64}|\$2a\$') THEN
        RAISE EXCEPTION 'the audit shows a key or a hash';
    END IF;
    DROP TABLE now;
END
$$;
-- until no other session, such as an autovacuum worker, keeps dead rows
CREATE PROCEDURE probe.quiet() LANGUAGE plpgsql AS $$
BEGIN
    WHILE EXISTS (SELECT FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()) LOOP
        COMMIT;
        PERFORM pg_sleep(0.05), pg_stat_clear_snapshot();
    END LOOP;
END
$$;
-- what the audit proposes
CREATE FUNCTION probe.remedy(wanted text, target text DEFAULT 'clients') RETURNS SETOF text LANGUAGE sql AS $$
    SELECT remedy FROM audit_api_keys(target::regclass) WHERE finding = wanted ORDER BY 1
$$;

CREATE TABLE clients (id integer PRIMARY KEY, name text, api_key text) WITH (autovacuum_enabled = off);
-- before anything: not protected
SELECT * FROM probe.news();
SELECT * FROM probe.remedy('protection');
SELECT protect_api_keys('clients');
-- a clean table has no leak
SELECT * FROM probe.news();
SELECT count(*) FROM audit_api_keys('clients') WHERE severity = 'leak';
INSERT INTO probe.seen SELECT * FROM audit_api_keys('clients');

-- plaintext, unhashable and misplaced
ALTER TABLE clients DISABLE TRIGGER "!pg_api_key_first";
SELECT * FROM probe.news();
SELECT * FROM probe.remedy('triggers');
ALTER TABLE clients DISABLE TRIGGER USER;
INSERT INTO clients SELECT i, 'n', 'secret-' || i FROM generate_series(1, 200) AS i;
INSERT INTO clients (id, api_key) VALUES (1001, 'secret 1001'), (1002, E'secret-1002\n');
INSERT INTO clients (id, api_key_hash) VALUES (1003, 'secret-1003');
ALTER TABLE clients ENABLE TRIGGER USER;
SELECT * FROM probe.news();
SELECT protect_api_keys('clients');
SELECT * FROM probe.news();
-- the statement for misplaced keys does not touch a key beside them
UPDATE clients SET api_key_hash = 'secret-of-old' WHERE id = 5;
SELECT remedy FROM probe.remedy('hash column') AS r (remedy) \gset
:remedy
SELECT id, api_key IS NULL, api_key_hash = hash_api_key('secret-' || id) FROM clients WHERE id IN (5, 1003) ORDER BY id;
UPDATE clients SET api_key_hash = NULL WHERE id = 5;
\unset remedy
SELECT remedy FROM audit_api_keys('clients') WHERE finding = 'plaintext';
DELETE FROM clients WHERE id IN (1001, 1002);

-- statistics of the column, of an index's expression, and extended ones
CREATE INDEX clients_lower ON clients (lower(api_key));
CREATE INDEX clients_both ON clients (name, api_key);
CREATE UNIQUE INDEX clients_constraint ON clients (api_key);
ALTER TABLE clients ADD CONSTRAINT clients_constraint UNIQUE USING INDEX clients_constraint;
CREATE INDEX clients_brin ON clients USING brin (api_key);
CREATE INDEX clients_other ON clients (lower(name), lower(api_key_hash));
CREATE STATISTICS clients_statistics (mcv) ON name, api_key FROM clients;
ANALYZE clients;
SELECT * FROM probe.news();
SELECT * FROM probe.remedy('statistics');
SELECT * FROM probe.remedy('extended statistics');
SELECT DISTINCT * FROM probe.remedy('index');
ALTER TABLE clients ALTER COLUMN api_key SET STATISTICS 0;

-- once migrated, entries of indexes
UPDATE clients SET api_key = api_key;
SELECT * FROM probe.news();
ALTER TABLE clients DROP CONSTRAINT clients_constraint;
DROP INDEX clients_lower, clients_both, clients_brin, clients_other;
DROP STATISTICS clients_statistics;
CALL probe.quiet();
VACUUM (INDEX_CLEANUP ON) clients;
-- as the audit says: with a target of 0 ANALYZE alone would leave the samples
ANALYZE clients;
SELECT * FROM probe.news();
ALTER TABLE clients ALTER COLUMN api_key SET STATISTICS -1;
ANALYZE clients;
ALTER TABLE clients ALTER COLUMN api_key SET STATISTICS 0;
SELECT object <> '', pages >= scrubbed FROM scrub_api_keys('clients') WHERE object IN ('public.clients', 'clients');
SELECT * FROM probe.news();
SELECT count(*) FROM audit_api_keys('clients') WHERE finding = 'dead bytes';
SELECT count(*) FROM audit_api_keys() WHERE severity = 'leak';
-- any later update leaves some, of which nobody knows what they were
DELETE FROM clients WHERE id < 10;
VACUUM clients;
SELECT DISTINCT severity, finding, object FROM audit_api_keys('clients') WHERE finding = 'dead bytes' AND object LIKE '%clients';

-- ways around the triggers
CREATE FUNCTION probe.nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER between BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION probe.nothing();
CREATE TRIGGER " before" BEFORE UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION probe.nothing();
CREATE TRIGGER after AFTER UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION probe.nothing();
CREATE TRIGGER deletes AFTER DELETE ON clients FOR EACH ROW EXECUTE FUNCTION probe.nothing();
SELECT * FROM probe.news();
DROP TRIGGER between ON clients;
DROP TRIGGER " before" ON clients;
DROP TRIGGER after ON clients;
DROP TRIGGER deletes ON clients;
CREATE RULE copies AS ON INSERT TO clients DO ALSO NOTHING;
ALTER TABLE clients REPLICA IDENTITY FULL;
ALTER TABLE clients ALTER COLUMN api_key SET DEFAULT 'secret';
CREATE TABLE child () INHERITS (clients);
CREATE PUBLICATION regress_audit FOR TABLE clients;
SELECT * FROM probe.news();
SELECT * FROM probe.remedy('replica identity');
DROP TABLE child;
DROP PUBLICATION regress_audit;
DROP RULE copies ON clients;
ALTER TABLE clients REPLICA IDENTITY DEFAULT;
ALTER TABLE clients ALTER COLUMN api_key DROP DEFAULT;
SELECT * FROM probe.news();

-- look-alikes: copies, staging tables, materialized views
CREATE TABLE copied (LIKE clients INCLUDING ALL);
CREATE MATERIALIZED VIEW stored AS SELECT * FROM clients;
CREATE VIEW shown AS SELECT * FROM clients;
SELECT * FROM probe.news();
SELECT * FROM probe.remedy('look-alike');
DROP TABLE copied;
DROP MATERIALIZED VIEW stored;
DROP VIEW shown;

-- who may read hashes, and who may put his own in place
CREATE ROLE regress_reader;
CREATE ROLE regress_writer;
GRANT SELECT ON clients TO regress_reader;
GRANT UPDATE (api_key_hash) ON clients TO regress_writer;
SELECT * FROM probe.news();
SELECT detail FROM audit_api_keys('clients') WHERE finding = 'privileges' ORDER BY 1;
-- one who has no privileges asks, too
SET ROLE regress_writer;
SELECT DISTINCT severity, finding, object FROM audit_api_keys('clients') WHERE finding IN ('plaintext', 'dead rows', 'hash column', 'row security');
RESET ROLE;
SET ROLE regress_reader;
SELECT DISTINCT severity, finding, object FROM audit_api_keys('clients') WHERE finding IN ('plaintext', 'dead rows', 'hash column', 'row security');
RESET ROLE;
ALTER TABLE clients ENABLE ROW LEVEL SECURITY;
SET ROLE regress_reader;
SELECT DISTINCT severity, finding, object FROM audit_api_keys('clients') WHERE finding IN ('plaintext', 'dead rows', 'hash column', 'row security');
RESET ROLE;
ALTER TABLE clients DISABLE ROW LEVEL SECURITY;
-- only the key column may be read
REVOKE ALL ON clients FROM regress_reader;
GRANT SELECT (id, api_key) ON clients TO regress_reader;
SET ROLE regress_reader;
SELECT DISTINCT severity, finding, object FROM audit_api_keys() WHERE finding IN ('plaintext', 'dead rows', 'hash column', 'row security');
RESET ROLE;
REVOKE ALL ON clients FROM regress_reader, regress_writer;
REVOKE ALL (id, api_key, api_key_hash) ON clients FROM regress_reader, regress_writer;

-- columns that were renamed under the triggers
ALTER TABLE clients RENAME COLUMN api_key TO old_key;
SELECT * FROM probe.news();
ALTER TABLE clients ADD COLUMN api_key text;
SELECT * FROM probe.news();
INSERT INTO clients (id, api_key) VALUES (2001, 'secret-2001');
SELECT id, api_key IS NULL FROM clients WHERE id = 2001;
ALTER TABLE clients DROP COLUMN api_key;
ALTER TABLE clients RENAME COLUMN old_key TO api_key;
SELECT * FROM probe.news();

-- partitions have findings of their own
CREATE TABLE parts (id integer, api_key text) PARTITION BY LIST (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE INDEX parts_key ON parts (api_key);
SELECT protect_api_keys('parts');
ALTER TABLE parts_1 ALTER COLUMN api_key SET DEFAULT 'secret';
ALTER TABLE parts_1 REPLICA IDENTITY FULL;
CREATE TRIGGER sees AFTER UPDATE ON parts_1 FOR EACH ROW EXECUTE FUNCTION probe.nothing();
CREATE STATISTICS parts_statistics ON id, api_key FROM parts_1;
SELECT * FROM probe.news('parts');
SELECT * FROM probe.remedy('index', 'parts');
ALTER TABLE parts DETACH PARTITION parts_1;
SELECT severity, finding, object FROM audit_api_keys('parts') WHERE finding = 'look-alike';
DROP TABLE parts, parts_1;
DROP TABLE clients;

-- names that break whatever is not quoted as it must be
CREATE TABLE "a ""b"" 'c' %s" (id integer PRIMARY KEY, "k %s \ ""x"" (.*" text, "k" text);
SELECT protect_api_keys('"a ""b"" ''c'' %s"', 'k %s \ "x" (.*', 'h %s ''');
CREATE INDEX "i ""%s"" '" ON "a ""b"" 'c' %s" (lower("k"), lower("k %s \ ""x"" (.*"));
ALTER TABLE "a ""b"" 'c' %s" DISABLE TRIGGER USER;
INSERT INTO "a ""b"" 'c' %s" SELECT i, 'secret-' || i, 'k' FROM generate_series(1, 10) AS i;
ALTER TABLE "a ""b"" 'c' %s" ENABLE ALWAYS TRIGGER "!pg_api_key_first", ENABLE ALWAYS TRIGGER "!pg_api_key_upsert", ENABLE ALWAYS TRIGGER "~pg_api_key_last";
SELECT * FROM probe.news('"a ""b"" ''c'' %s"');
SELECT finding, remedy FROM audit_api_keys('"a ""b"" ''c'' %s"') WHERE finding IN ('plaintext', 'index', 'statistics') ORDER BY 1, 2;
SELECT kind, key_number FROM api_key_storage('"a ""b"" ''c'' %s"', 'k %s \ "x" (.*') WHERE relation = '"i ""%s"" ''"'::regclass;
SELECT remedy FROM audit_api_keys('"a ""b"" ''c'' %s"') WHERE finding = 'plaintext' \gset
:remedy
\unset remedy
CALL probe.quiet();
VACUUM "a ""b"" 'c' %s";
SELECT count(*) > 0 FROM scrub_api_keys('"a ""b"" ''c'' %s"');
SELECT * FROM probe.news('"a ""b"" ''c'' %s"');
DROP TABLE "a ""b"" 'c' %s";

-- settings, also those that only another role or database gets
CREATE FUNCTION probe.settings() RETURNS TABLE (severity text, finding text, object text, remedy text) LANGUAGE sql AS $$
    SELECT severity, finding, object, remedy FROM audit_api_keys() WHERE finding IN ('statement log', 'parameter log', 'auto_explain', 'pgaudit', 'WAL and backups') ORDER BY 2, 3
$$;
SELECT * FROM probe.settings();
ALTER ROLE regress_reader SET log_statement = 'ALL';
ALTER ROLE regress_reader IN DATABASE regression SET log_min_duration_statement = 100;
ALTER DATABASE regression SET log_parameter_max_length_on_error = 10;
SET log_min_duration_sample = 0;
SET log_transaction_sample_rate = 0.5;
SET debug_print_plan = on;
SET log_min_error_statement = panic;
SELECT * FROM probe.settings();
ALTER ROLE regress_reader RESET log_statement;
ALTER ROLE regress_reader IN DATABASE regression RESET ALL;
ALTER DATABASE regression RESET log_parameter_max_length_on_error;
RESET log_min_duration_sample;
RESET log_transaction_sample_rate;
RESET debug_print_plan;
RESET log_min_error_statement;
DROP ROLE regress_reader, regress_writer;
-- nothing is protected, and nothing is wrong with a table that is none of ours
SELECT severity, finding, object FROM audit_api_keys() WHERE severity = 'leak';
CREATE TABLE other (id integer);
SELECT unprotect_api_keys('other');
SELECT severity, finding, object FROM audit_api_keys('other') WHERE severity = 'leak';
DROP TABLE other;
DROP TABLE probe.seen;
DROP FUNCTION probe.news, probe.remedy, probe.nothing, probe.settings;
DROP PROCEDURE probe.quiet;
RESET client_min_messages;
