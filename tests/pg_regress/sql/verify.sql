-- verify_api_key: true for a match and false for everything else
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

SELECT verify_api_key('abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
SELECT verify_api_key('abd', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
SELECT verify_api_key('ABC', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
SELECT verify_api_key('abc', hash_api_key('abc')), verify_api_key('abc', hash_api_key('abc', 'bcrypt', 4)), verify_api_key('abd', hash_api_key('abc', 'bcrypt', 4));
SELECT bool_and(verify_api_key(repeat('k', n), hash_api_key(repeat('k', n), 'bcrypt', 4))) FROM generate_series(1, 72) AS n;
-- openwall's vectors
SELECT verify_api_key('U*U', '$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SELECT verify_api_key('U*U*', '$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK');
SELECT verify_api_key('U*U*U', '$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a');
-- the three names of one algorithm
SELECT verify_api_key('U*U', '$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SELECT verify_api_key('U*U', '$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SELECT verify_api_key('U*V', '$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
-- a foreign hash of a long key: bcrypt takes its first 72 bytes
SELECT verify_api_key('0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789', '$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui');
SELECT verify_api_key('0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789chars-after-72', '$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui');
SELECT verify_api_key('0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ012345678', '$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui');

-- false, never null
SELECT verify_api_key(NULL, NULL);
SELECT verify_api_key('abc', NULL);
SELECT verify_api_key(NULL, 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
SELECT verify_api_key('', '');
SELECT verify_api_key('abc', '');
SELECT verify_api_key('', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
SELECT verify_api_key('', '$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy');
-- swapped, or one thing twice
SELECT verify_api_key('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 'abc');
SELECT verify_api_key('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
SELECT verify_api_key('$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW', '$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SELECT verify_api_key('abc', 'abc');
-- what is no key
SELECT verify_api_key(E'abc\n', hash_api_key('abc'));
SELECT verify_api_key(' abc', hash_api_key('abc'));
SELECT verify_api_key('abc ', hash_api_key('abc'));
SELECT verify_api_key(E'abc\n', encode(sha256(E'abc\n'), 'hex'));
SELECT verify_api_key(U&'\00e9', encode(sha256(convert_to(U&'\00e9', 'UTF8')), 'hex'));
SELECT verify_api_key(repeat('k', 1025), encode(sha256(convert_to(repeat('k', 1025), 'UTF8')), 'hex'));
SELECT verify_api_key(repeat('k', 1000000), hash_api_key('abc'));
-- what is no hash
SELECT verify_api_key('abc', 'BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD');
SELECT verify_api_key('abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a');
SELECT verify_api_key('abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015add');
SELECT verify_api_key('abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ag');
SELECT verify_api_key('abc', ' ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
SELECT verify_api_key('abc', E'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n');
SELECT verify_api_key('abc', '\xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
SELECT verify_api_key('abc', 'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
SELECT verify_api_key('abc', repeat(U&'\00e9', 32)), verify_api_key('abc', repeat(U&'\00e9', 30));
SELECT verify_api_key('abc', repeat('0', 1000000));
SELECT verify_api_key('U*U', '$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SELECT verify_api_key('U*U', '$2$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SELECT verify_api_key('U*U', '$2a$5$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeWx');
SELECT verify_api_key('U*U', '$2a$03$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SELECT verify_api_key('U*U', '$2a$32$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SELECT verify_api_key('U*U', '$2a$99$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SELECT verify_api_key('U*U', '$2a$-5$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SELECT verify_api_key('U*U', '$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOe');
SELECT verify_api_key('U*U', '$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW ');
SELECT verify_api_key('U*U', '$2a$05$CCCCCCCCCCCCCCCCCCCCC!E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SELECT verify_api_key('U*U', '$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeX');
SELECT verify_api_key('U*U', '$2a$05$'), verify_api_key('U*U', '$2a$'), verify_api_key('U*U', '$');
SELECT verify_api_key('abc', '$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaOBHtGKJ0rM6EyqM');
SELECT verify_api_key('abc', '$1$salt$qJH7.N4xYta3aEG/dfqo/0'), verify_api_key('abc', 'rqXexS6ZhobKA');
SELECT verify_api_key('abc', '$hmac-sha256$'), verify_api_key('abc', '$hmac-sha256$$ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'), verify_api_key('abc', '$hmac-sha256$1$ba');
-- fuzz: nothing raises, nothing is null
SELECT count(*) FILTER (WHERE verify_api_key(key, hash)), count(*) FILTER (WHERE verify_api_key(key, hash) IS NULL) FROM unnest(ARRAY[NULL, '', ' ', 'abc', E'\n', E'\x01', U&'\00e9', '$', '$2a$', repeat('k', 73), repeat('k', 1025)]) AS key, unnest(ARRAY[NULL, '', ' ', E'\n', '$', '$$', '$2', '$2a', '$2a$10', '$2a$10$', repeat('$', 60), repeat('$', 64), repeat('.', 60), '$2a$10$' || repeat('$', 53), '$2a$aa$' || repeat('.', 53), repeat('f', 63), repeat(U&'\00e9', 32), '$hmac-sha256$' || repeat('$', 64)]) AS hash;

-- a pepper that is not there is an error: a silent no would lock clients out
SELECT probe.answer('SELECT verify_api_key($1, ''$hmac-sha256$v1$ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'')', 'marker_1');
-- and so is a cost above the limit; it neither hangs nor says no
SELECT probe.answer('SELECT verify_api_key($1, ''$2a$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW'')', 'marker_1');
SELECT probe.answer('SELECT verify_api_key($1, ''$2b$15$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW'')', 'marker_1');
SET pg_api_key.max_bcrypt_cost = 4;
SELECT probe.answer('SELECT verify_api_key($1, ''$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW'')', 'U*U');
-- what is no key needs no hashing
SELECT verify_api_key('', '$2a$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW'), verify_api_key(NULL, '$2a$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SET pg_api_key.max_bcrypt_cost = 5;
SELECT verify_api_key('U*U', '$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
RESET pg_api_key.max_bcrypt_cost;

-- the limit protects the server, so only a superuser, or whom one trusts, moves it
CREATE ROLE regress_clerk;
-- before the library is loaded the setting is a placeholder, which loading then refuses
\c -
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
SET SESSION AUTHORIZATION regress_clerk;
SET pg_api_key.max_bcrypt_cost = 31;
SELECT probe.answer('SELECT verify_api_key($1, ''$2a$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW'')', 'marker_1');
SHOW pg_api_key.max_bcrypt_cost;
RESET SESSION AUTHORIZATION;
SET ROLE regress_clerk;
SET pg_api_key.max_bcrypt_cost = 31;
SET LOCAL pg_api_key.max_bcrypt_cost = 31;
SELECT set_config('pg_api_key.max_bcrypt_cost', '31', false);
ALTER ROLE regress_clerk SET pg_api_key.max_bcrypt_cost = 31;
SHOW pg_api_key.max_bcrypt_cost;
RESET ROLE;
GRANT SET ON PARAMETER pg_api_key.max_bcrypt_cost TO regress_clerk;
SET ROLE regress_clerk;
SET pg_api_key.max_bcrypt_cost = 12;
SHOW pg_api_key.max_bcrypt_cost;
RESET ROLE;
RESET pg_api_key.max_bcrypt_cost;
REVOKE SET ON PARAMETER pg_api_key.max_bcrypt_cost FROM regress_clerk;
DROP ROLE regress_clerk;

-- usable where the planner moves it about
CREATE TEMP TABLE clients (id integer, api_key_hash text);
INSERT INTO clients SELECT n, hash_api_key('key-' || n, 'bcrypt', 4) FROM generate_series(1, 20) AS n;
INSERT INTO clients VALUES (21, NULL), (22, 'plain'), (23, '');
SELECT id FROM clients WHERE verify_api_key('key-7', api_key_hash);
SELECT count(*) FROM clients WHERE NOT verify_api_key('key-7', api_key_hash);
PREPARE verify (text) AS SELECT id FROM clients WHERE verify_api_key($1, api_key_hash);
EXECUTE verify('key-8');
EXECUTE verify(NULL);
DEALLOCATE verify;
DROP TABLE clients;
