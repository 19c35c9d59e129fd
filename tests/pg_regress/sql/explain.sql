-- explain_api_key: one sentence, with neither key nor hash in it
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
SET client_min_messages = error;
\set key 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

-- of a pair
SELECT explain_api_key(:'key', hash_api_key(:'key'));
SELECT explain_api_key(:'key', hash_api_key(:'key', 'bcrypt', 4));
SELECT explain_api_key(repeat('k', 80), hash_api_key(repeat('k', 72), 'bcrypt', 4));
SELECT explain_api_key(:'key', :'key');
SELECT explain_api_key(hash_api_key(:'key'), hash_api_key(:'key'));
SELECT explain_api_key(:'key', hash_api_key(hash_api_key(:'key')));
SELECT explain_api_key(:'key', encode(sha256(convert_to(:'key' || E'\n', 'UTF8')), 'hex'));
SELECT explain_api_key(E'' || :'key' || E'\n', hash_api_key(:'key'));
SELECT explain_api_key(' ' || :'key', hash_api_key(:'key'));
SELECT explain_api_key('"' || :'key' || '"', hash_api_key(:'key', 'bcrypt', 4));
SELECT explain_api_key('Bearer ' || :'key', hash_api_key(:'key'));
SELECT explain_api_key(:'key', upper(hash_api_key(:'key')));
SELECT explain_api_key(:'key', encode(sha256(convert_to(:'key', 'UTF8')), 'base64'));
SELECT explain_api_key(:'key', hash_api_key(:'key') || '  -');
SELECT explain_api_key(:'key', left(hash_api_key(:'key'), 40));
SELECT explain_api_key(:'key', left(hash_api_key(:'key', 'bcrypt', 4), 50));
SELECT explain_api_key(replace(:'key', 'z', 'y'), hash_api_key(:'key'));
SELECT explain_api_key('other', hash_api_key(:'key'));
SELECT explain_api_key('other', md5('x'));
SELECT explain_api_key('other', '');
SELECT explain_api_key('clé', hash_api_key(:'key'));
SELECT explain_api_key('', hash_api_key(:'key'));
SELECT explain_api_key(NULL, hash_api_key(:'key'));
SELECT explain_api_key(:'key', NULL);
SELECT explain_api_key(:'key', '$2a$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW');
SELECT explain_api_key(:'key', '$hmac-sha256$a$' || hash_api_key(:'key'));

-- of a key in a table
CREATE TABLE services (id integer PRIMARY KEY, api_key text, api_key_hash varchar(64));
INSERT INTO services (id, api_key) VALUES (1, 'service-key-1'), (2, 'service-key-2');
SELECT probe.answer('SELECT explain_api_key(''services''::regclass, $1)', 'service-key-1');
SELECT protect_api_keys('services');
SELECT explain_api_key('services'::regclass, 'service-key-1');
UPDATE services SET api_key = api_key WHERE id = 1;
SELECT explain_api_key('services'::regclass, 'service-key-1');
SELECT explain_api_key('services'::regclass, 'service-key-2');
SELECT explain_api_key('services'::regclass, E'service-key-1\n');
SELECT explain_api_key('services'::regclass, '''service-key-1''');
SELECT explain_api_key('services'::regclass, hash_api_key('service-key-1'));
SELECT explain_api_key('services'::regclass, 'service-key-3');
SELECT explain_api_key('services'::regclass, 'service key');
SELECT explain_api_key('services'::regclass, NULL);
UPDATE services SET api_key_hash = 'service-key-1' WHERE id = 1;
SELECT explain_api_key('services'::regclass, 'service-key-1');
UPDATE services SET api_key_hash = hash_api_key(hash_api_key('service-key-1')) WHERE id = 1;
SELECT explain_api_key('services'::regclass, 'service-key-1');
UPDATE services SET api_key_hash = upper(hash_api_key('service-key-1')) WHERE id = 1;
SELECT explain_api_key('services'::regclass, 'service-key-1');
UPDATE services SET api_key_hash = left(hash_api_key('service-key-1'), 50) WHERE id = 1;
SELECT explain_api_key('services'::regclass, 'service-key-1');
SELECT protect_api_keys('services', hash_column => 'api_key_hash');
DROP TABLE services;
CREATE TABLE partners (id integer PRIMARY KEY, api_key text);
INSERT INTO partners VALUES (1, 'partner-key-1');
SELECT protect_api_keys('partners', algorithm => 'bcrypt', cost => 4);
SELECT explain_api_key('partners'::regclass, 'partner-key-1');
UPDATE partners SET api_key = api_key;
SELECT explain_api_key('partners'::regclass, 'partner-key-1');
SELECT explain_api_key('partners'::regclass, 'partner-key-1 ');
SELECT explain_api_key('partners'::regclass, 'partner-key-2');
SELECT explain_api_key('partners'::regclass, api_key_hash) LIKE '%mistake 2%' FROM partners;
DROP TABLE partners;
