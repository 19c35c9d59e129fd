-- One round: all keys inserted into each table, in seconds a row.

TRUNCATE client, ours, pgcrypto, client_bare, ours_bare, pgcrypto_bare, postgresql_bare;

SELECT 'trigger', 'client', seconds('INSERT INTO client_bare (id, name, api_key_hash) SELECT id, name, api_key_hash FROM keys', :keys);
SELECT 'trigger', 'ours', seconds('INSERT INTO ours_bare (id, name, api_key) SELECT id, name, api_key FROM keys', :keys);
SELECT 'trigger', 'pgcrypto', seconds('INSERT INTO pgcrypto_bare (id, name, api_key) SELECT id, name, api_key FROM keys', :keys);
SELECT 'trigger', 'PostgreSQL', seconds('INSERT INTO postgresql_bare (id, name, api_key) SELECT id, name, api_key FROM keys', :keys);

SELECT 'insert', 'client', seconds('INSERT INTO client (id, name, api_key_hash) SELECT id, name, api_key_hash FROM keys', :keys);
SELECT 'insert', 'ours', seconds('INSERT INTO ours (id, name, api_key) SELECT id, name, api_key FROM keys', :keys);
SELECT 'insert', 'pgcrypto', seconds('INSERT INTO pgcrypto (id, name, api_key) SELECT id, name, api_key FROM keys', :keys);
