-- bcrypt hashes that an application made by itself have no look-up tag, and are found all the same
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE TABLE clients (id integer PRIMARY KEY, api_key text, api_key_hash text);
INSERT INTO clients VALUES (1, NULL, hash_api_key('made-before', 'bcrypt', 4));
INSERT INTO clients VALUES (2, 'in-plaintext', NULL);
INSERT INTO clients VALUES (3, NULL, NULL);
SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 4);
SELECT id FROM find_by_api_key(NULL::clients, 'made-before');
SELECT id FROM find_by_api_key(NULL::clients, 'in-plaintext');
SELECT count(*) FROM find_by_api_key(NULL::clients, 'unknown');
-- and so are those written later, after the first look-up of this session
INSERT INTO clients VALUES (4, NULL, hash_api_key('made-later', 'bcrypt', 4));
SELECT id FROM find_by_api_key(NULL::clients, 'made-later');
-- a key written once more gets its tag
UPDATE clients SET api_key = 'made-later' WHERE id = 4;
SELECT id FROM clients WHERE api_key_tag = api_key_tag('made-later') AND verify_api_key('made-later', api_key_hash);
-- a hash of another kind is none of these
INSERT INTO clients VALUES (5, NULL, hash_api_key('made-with-sha256'));
SELECT id FROM find_by_api_key(NULL::clients, 'made-with-sha256');
SELECT count(*) FROM find_by_api_key(NULL::clients, hash_api_key('made-with-sha256'));
DROP TABLE clients;
