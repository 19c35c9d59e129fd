-- the extension leaves only when nothing needs it, and lives in any schema
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

CREATE TABLE clients (id integer PRIMARY KEY, api_key text);
SELECT protect_api_keys('clients');
INSERT INTO clients VALUES (1, 'key-1');
-- protected, and the server knows it
DROP EXTENSION pg_api_key;
DROP FUNCTION hash_api_key_trigger();
ALTER EXTENSION pg_api_key SET SCHEMA probe;
SELECT unprotect_api_keys('clients');
DROP EXTENSION pg_api_key;
SELECT id, api_key, length(api_key_hash) FROM clients;
-- another schema, with a name that has to be quoted
CREATE SCHEMA "Key Vault";
CREATE EXTENSION pg_api_key SCHEMA "Key Vault";
SELECT DISTINCT (pg_identify_object(classid, objid, 0)).schema FROM pg_depend JOIN pg_extension AS e ON refobjid = e.oid WHERE deptype = 'e' AND extname = 'pg_api_key' AND classid <> 'pg_type'::regclass;
SELECT "Key Vault".protect_api_keys('clients');
SELECT "Key Vault".protect_api_keys('clients', algorithm => 'bcrypt', cost => 4);
SELECT "Key Vault".protect_api_keys('clients');
INSERT INTO clients VALUES (2, 'key-2');
INSERT INTO clients VALUES (2, 'key-2b') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
SELECT id, api_key, "Key Vault".verify_api_key('key-' || id, api_key_hash) FROM clients ORDER BY id;
SELECT protected_table, plaintext, hashed, triggers_in_force FROM "Key Vault".api_key_status;
CREATE TABLE parent (id integer, api_key text) PARTITION BY RANGE (id);
CREATE TABLE part PARTITION OF parent FOR VALUES FROM (1) TO (9);
SELECT "Key Vault".protect_api_keys('part');
DROP TABLE parent;
DROP EXTENSION pg_api_key;
-- CASCADE takes the triggers, as asked
SET client_min_messages = warning;
DROP EXTENSION pg_api_key CASCADE;
RESET client_min_messages;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'clients'::regclass;
DROP SCHEMA "Key Vault";
CREATE EXTENSION pg_api_key;
SELECT protect_api_keys('clients');
SELECT id, api_key, verify_api_key('key-' || id, api_key_hash) FROM clients ORDER BY id;
DROP TABLE clients;
-- an ordinary user who may create in the database installs it
CREATE ROLE regress_tenant;
DROP EXTENSION pg_api_key;
SELECT format('GRANT CREATE ON DATABASE %I TO regress_tenant', current_database()) \gexec
SET ROLE regress_tenant;
CREATE SCHEMA tenant;
CREATE EXTENSION pg_api_key SCHEMA tenant;
CREATE TABLE tenant.clients (id integer, api_key text);
SELECT tenant.protect_api_keys('tenant.clients');
INSERT INTO tenant.clients VALUES (1, 'key-1');
SELECT id, api_key, api_key_hash = tenant.hash_api_key('key-1') FROM tenant.clients;
DROP TABLE tenant.clients;
DROP EXTENSION pg_api_key;
DROP SCHEMA tenant;
RESET ROLE;
SELECT format('REVOKE CREATE ON DATABASE %I FROM regress_tenant', current_database()) \gexec
DROP ROLE regress_tenant;
CREATE EXTENSION pg_api_key;
