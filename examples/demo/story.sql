-- The demo as a story, told by psql. A command that ends in `\;\p\g` is printed, then run.
-- pgrx-config/demo exports KEYS (the file of the clients' own copies of their keys) and DATA.

\set QUIET on
\set ON_ERROR_STOP on
\set start 'SELECT clock_timestamp() AS began'
\set elapsed 'SELECT round(extract(epoch FROM clock_timestamp() - :\'began\') * 1000, 1) || \' ms\' AS time'
\pset footer off

-- What the clients have at home. A temporary table is in no dump.
CREATE TEMPORARY TABLE pocket AS SELECT id, form, api_key FROM clients;
CREATE TEMPORARY TABLE partners_pocket AS SELECT id, api_key FROM partners;
\copy (SELECT api_key FROM pocket) TO PROGRAM 'cat >"$KEYS"'

\echo
\echo '1. BEFORE'
\echo
\echo 'A table of 20,000 clients, each with its API key in plaintext, in six common forms:'
\echo
SELECT DISTINCT ON (form) id, form, left(api_key, 48) || repeat('.', least(3, length(api_key) - 48)) AS api_key
  FROM clients ORDER BY form, id;

\set found `pg_dump --table=clients | LC_ALL=C grep -c -F -f "$KEYS"`
\echo 'Whoever gets hold of a dump of this table has' :found 'keys that work.'

\echo
\echo '2. PROTECT: ONE LINE'
\echo
\pset tuples_only on
:start \gset
SELECT protect_api_keys('clients')\;\p\g /dev/null
:elapsed \gset
\pset tuples_only off
\echo
\echo 'That took' :time 'and added a column, its index and triggers. From now on no write leaves a key in plaintext.'

\echo
\echo '3. MIGRATE: HASH THE KEYS THAT WERE THERE BEFORE'
\echo
:start \gset
UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL\;\p\g
:elapsed \gset
ALTER TABLE clients DROP CONSTRAINT clients_api_key_key\;\p\g
\echo
\echo 'The UPDATE took' :time 'for 20,000 keys. The old column is empty:'
\echo
SELECT id, form, api_key, left(api_key_hash, 40) || '...' AS api_key_hash FROM clients ORDER BY id LIMIT 3;
SELECT protected_table, plaintext, hashed, algorithm, triggers_in_force FROM api_key_status\;\p\g

\echo '4. AUTHENTICATE: ONE INDEXED QUERY'
\echo
SELECT api_key AS key, overlay(api_key PLACING CASE substr(api_key, 20, 1) WHEN 'a' THEN 'b' ELSE 'a' END FROM 20) AS mistyped
  FROM pocket WHERE form = 'GitHub' ORDER BY id LIMIT 1 \gset
\echo 'A client comes with its key:'
\echo
:start \gset
SELECT id, name FROM clients WHERE api_key_hash = hash_api_key(:'key')\;\p\g
:elapsed \gset
\echo 'Found in' :time '(with the way to the server and back). The same with one letter mistyped:'
\echo
SELECT id, name FROM clients WHERE api_key_hash = hash_api_key(:'mistyped')\;\p\g
\echo 'Nobody. Keys in the layout of GitHub carry a checksum, so that a typo is known before any look-up:'
\echo
SELECT api_key_checksum_valid(:'key') AS right_key, api_key_checksum_valid(:'mistyped') AS mistyped;
\echo 'The plan of the look-up uses the index, and shows the hash only:'
\echo
EXPLAIN (COSTS OFF) SELECT id, name FROM clients WHERE api_key_hash = hash_api_key(:'key');
:start \gset
SELECT count(*) AS found FROM pocket, clients
 WHERE clients.api_key_hash = hash_api_key(pocket.api_key) AND clients.id = pocket.id \gset
:elapsed \gset
\echo 'Was anybody locked out? All 20,000 clients come with their old keys:' :found 'are recognized, in' :time.

\echo
\echo '5. NEW CLIENTS: THE APPLICATION WRITES AS BEFORE'
\echo
SELECT generate_api_key('demo') AS new_key \gset
INSERT INTO clients (name, form, api_key) VALUES ('client 20001', 'new', :'new_key')
    RETURNING id, api_key, left(api_key_hash, 40) || '...' AS api_key_hash\;\p\g
CHECKPOINT;
\setenv NEW_KEY :new_key
\set found `LC_ALL=C grep -r -a -l -F -e "$NEW_KEY" "$DATA" | wc -l`
\echo 'The key was hashed on its way in. Files of this server that hold it, write-ahead log included:' :found.
\echo 'A key with a newline at its end, as echo makes it, would never match. It is refused:'
\echo
\set ON_ERROR_STOP off
INSERT INTO clients (name, form, api_key) VALUES ('client 20002', 'new', E'made-by-echo\n')\;\p\g
\set ON_ERROR_STOP on

\echo
\echo '6. INTERNAL SERVICES: HASHES THAT AN APPLICATION MADE'
\echo
\echo 'A service gets a secret from "openssl rand -hex 32"; the table "users" gets what "sha256sum" prints for it.'
\set secret `openssl rand -hex 32`
\set hash `printf %s :'secret' | sha256sum | cut -d ' ' -f 1`
\echo
UPDATE users SET api_key_hash = :'hash' WHERE email = 'mail-service@system'\;\p\g
\echo
SELECT email, tenant, permissions FROM users WHERE api_key_hash = hash_api_key(:'secret')\;\p\g
\echo 'The digests are the same, so nothing has to be migrated. A classic mistake, the hash sent in place of the secret:'
\echo
SELECT email, tenant, permissions FROM users WHERE api_key_hash = hash_api_key(:'hash')\;\p\g

\echo '7. BCRYPT, WHERE A CONTRACT ASKS FOR IT'
\echo
\echo 'Twenty partners move to bcrypt at cost 10:'
\echo
\pset tuples_only on
SELECT protect_api_keys('partners', algorithm => 'bcrypt')\;\p\g /dev/null
\pset tuples_only off
\echo
:start \gset
UPDATE partners SET api_key = api_key WHERE api_key IS NOT NULL\;\p\g
:elapsed \gset
\echo
\echo 'The UPDATE took' :time 'since bcrypt is slow on purpose. Hashes have a salt, so they can''t be looked up; a small tag can:'
\echo
SELECT id, api_key, api_key_hash, api_key_tag FROM partners ORDER BY id LIMIT 2;
SELECT api_key AS key FROM partners_pocket WHERE id = 7 \gset
:start \gset
SELECT id, name FROM partners
 WHERE api_key_tag = api_key_tag(:'key')
   AND verify_api_key(:'key', api_key_hash)\;\p\g
:elapsed \gset
\set right_time :time
:start \gset
SELECT count(*) AS found FROM partners
 WHERE api_key_tag = api_key_tag(:'secret') AND verify_api_key(:'secret', api_key_hash) \gset
:elapsed \gset
\set wrong_time :time
:start \gset
SELECT count(*) AS found FROM partners WHERE verify_api_key(:'secret', api_key_hash) \gset
:elapsed \gset
\echo 'The right key is found in' :right_time', one hash. A wrong key is turned away in' :wrong_time', without any.'
\echo 'Comparing it with every row, the usual way with bcrypt, takes' :time 'for twenty partners.'

\echo
\echo '8. AFTER: WHAT A THIEF GETS'
\echo
\set in_dump `pg_dump --table=clients | LC_ALL=C grep -c -F -f "$KEYS"`
ANALYZE clients;
CHECKPOINT;
\set in_files `LC_ALL=C grep -r -a -o -h -F -f "$KEYS" --exclude='t*_*' "$DATA/base" | sort -u | wc -l`
\echo 'Keys in a dump of the table now:' :in_dump'. But an UPDATE leaves the old versions of rows in the files,'
\echo 'and the statistics hold samples. Of the 20,000 keys, the data files still have' :in_files'. Writing them anew:'
\echo
:start \gset
VACUUM FULL clients, pg_statistic\;\p\g
:elapsed \gset
CHECKPOINT;
\set in_files `LC_ALL=C grep -r -a -o -h -F -f "$KEYS" --exclude='t*_*' "$DATA/base" | sort -u | wc -l`
\set in_wal `LC_ALL=C grep -a -o -h -F -f "$KEYS" "$DATA"/pg_wal/0* | sort -u | wc -l`
\echo
\echo 'That took' :time'. The data files now have' :in_files', the write-ahead log still has' :in_wal', and so do archives and'
\echo 'backups made before: no extension reaches those. Let them expire, or give the clients new keys.'
\echo
\echo 'A key to try things with:'
\echo
SELECT format('SELECT * FROM clients WHERE api_key_hash = hash_api_key(%L);', :'new_key') AS try \gset
\echo '   ' :try
