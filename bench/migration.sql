-- One round: both migrations of the same rows, in seconds a row. The old column has no index any
-- more; both tables carry the hash that only the bare one reads, so that their rows are as wide.

CREATE TABLE bare (id integer PRIMARY KEY, name text, client_hash text, api_key text, api_key_hash text COLLATE "C" UNIQUE);
INSERT INTO bare SELECT id, name, api_key_hash, api_key FROM keys;
CREATE TABLE ours_migrated (LIKE bare INCLUDING ALL);
INSERT INTO ours_migrated SELECT * FROM bare;
SELECT protect_api_keys('ours_migrated') \g /dev/null
VACUUM (FREEZE, ANALYZE) bare, ours_migrated;

SELECT clock_timestamp() AS began \gset
CALL bare_migration();
SELECT 'migration', 'bare', extract(epoch FROM clock_timestamp() - :'began') / :keys;

SELECT clock_timestamp() AS began \gset
CALL migrate_api_keys('ours_migrated');
SELECT 'migration', 'ours', extract(epoch FROM clock_timestamp() - :'began') / :keys;

DROP TABLE bare, ours_migrated;
