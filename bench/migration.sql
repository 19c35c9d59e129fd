-- One turn: a migration of half the keys, in seconds a row. The old column has no index any more.
-- All tables carry the hashes that only the bare UPDATE reads, so that their rows are as wide.

\set rows :keys / 2
CREATE TABLE :table (id integer PRIMARY KEY, name text, client_hash text, api_key text, api_key_hash text COLLATE "C" UNIQUE);
INSERT INTO :table SELECT id, name, api_key_hash, api_key FROM keys WHERE id <= :rows;
SELECT :'table' <> 'bare' AS is_protected, :'table' = 'ours_migrated' AS is_ours \gset
\if :is_protected
SELECT protect_api_keys(:'table') \g /dev/null
\endif
VACUUM (FREEZE, ANALYZE) :table;

SELECT clock_timestamp() AS began \gset
\if :is_ours
CALL migrate_api_keys(:'table');
\else
CALL bare_migration(:'table');
\endif
SELECT 'migration', :'variant', extract(epoch FROM clock_timestamp() - :'began') / (:rows);

DROP TABLE :table;
