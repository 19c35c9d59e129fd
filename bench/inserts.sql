-- One round: a quarter of the keys inserted, in seconds a row.

TRUNCATE client, ours, pgcrypto, plain_c, client_bare, ours_bare, pgcrypto_bare, postgresql_bare;
SELECT 'trigger', * FROM in_turns(20, :keys / 84, ARRAY[
    ['client', 'INSERT INTO client_bare (id, name, api_key_hash) SELECT id, name, api_key_hash'],
    ['ours', 'INSERT INTO ours_bare (id, name, api_key) SELECT id, name, api_key'],
    ['pgcrypto', 'INSERT INTO pgcrypto_bare (id, name, api_key) SELECT id, name, api_key'],
    ['PostgreSQL', 'INSERT INTO postgresql_bare (id, name, api_key) SELECT id, name, api_key']]);
SELECT 'insert', * FROM in_turns(20, :keys / 84, ARRAY[
    ['client', 'INSERT INTO client (id, name, api_key_hash) SELECT id, name, api_key_hash'],
    ['ours', 'INSERT INTO ours (id, name, api_key) SELECT id, name, api_key'],
    ['plain C', 'INSERT INTO plain_c (id, name, api_key_hash) SELECT id, name, api_key_hash'],
    ['pgcrypto', 'INSERT INTO pgcrypto (id, name, api_key) SELECT id, name, api_key']]);
