-- One round: migrations of the same rows, in seconds a row. The old column has no index any more.
-- All tables carry the hashes that only the bare UPDATE reads, so that their rows are as wide.

CREATE TABLE bare (id integer PRIMARY KEY, name text, client_hash text, api_key text, api_key_hash text COLLATE "C" UNIQUE);
INSERT INTO bare SELECT id, name, api_key_hash, api_key FROM keys;
CREATE TABLE bare_protected (LIKE bare INCLUDING ALL);
INSERT INTO bare_protected SELECT * FROM bare;
CREATE TABLE ours_migrated (LIKE bare INCLUDING ALL);
INSERT INTO ours_migrated SELECT * FROM bare;
SELECT protect_api_keys('bare_protected'), protect_api_keys('ours_migrated') \g /dev/null
VACUUM (FREEZE, ANALYZE) bare, bare_protected, ours_migrated;

SELECT clock_timestamp() AS began \gset
CALL bare_migration('bare');
SELECT 'migration', 'bare UPDATE', extract(epoch FROM clock_timestamp() - :'began') / :keys;

SELECT clock_timestamp() AS began \gset
CALL bare_migration('bare_protected');
SELECT 'migration', 'bare UPDATE, protected', extract(epoch FROM clock_timestamp() - :'began') / :keys;

SELECT clock_timestamp() AS began \gset
CALL migrate_api_keys('ours_migrated');
SELECT 'migration', 'migrate_api_keys', extract(epoch FROM clock_timestamp() - :'began') / :keys;

DROP TABLE bare, bare_protected, ours_migrated;
