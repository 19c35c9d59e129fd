-- protected writes: whichever way a row comes in, its key is hashed and gone
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

CREATE TABLE clients (id integer PRIMARY KEY, name text, api_key text);
SELECT protect_api_keys('clients');
-- the rows written last, whether they hold their key's hash, and no key
CREATE FUNCTION probe.clients() RETURNS TABLE (id integer, name text, api_key text, hashed boolean) LANGUAGE sql AS $$
    SELECT id, name, api_key, verify_api_key('key-' || name, api_key_hash) FROM clients ORDER BY id
$$;

-- INSERT
INSERT INTO clients VALUES (1, 'a', 'key-a');
INSERT INTO clients VALUES (2, 'b', 'key-b'), (3, 'c', 'key-c'), (4, 'd', NULL);
INSERT INTO clients SELECT n, 'e' || n, 'key-e' || n FROM generate_series(5, 7) AS n;
INSERT INTO clients (id, name) VALUES (8, 'f');
INSERT INTO clients VALUES (9, 'g', 'key-g') RETURNING id, api_key, api_key_hash = hash_api_key('key-g');
PREPARE add_client (integer, text, text) AS INSERT INTO clients VALUES ($1, $2, $3);
EXECUTE add_client(10, 'h', 'key-h');
DEALLOCATE add_client;
WITH made AS (INSERT INTO clients VALUES (11, 'i', 'key-i') RETURNING id, api_key) SELECT * FROM made;
SELECT * FROM probe.clients();
-- a hash that the client sends along is not believed
INSERT INTO clients VALUES (12, 'j', 'key-j', hash_api_key('another'));
-- a hash without a key is taken as it is: dumps and full-row saves write such rows
INSERT INTO clients VALUES (13, 'k', NULL, hash_api_key('key-k'));
SELECT * FROM probe.clients() WHERE id > 11;
-- the same key twice
INSERT INTO clients VALUES (14, 'a', 'key-a');
-- no application made a hash of a hash
INSERT INTO clients VALUES (15, 'l', hash_api_key('key-l', 'bcrypt', 4));

-- COPY
COPY clients (id, name, api_key) FROM stdin;
20	m	key-m
21	n	key-n
22	o	\N
\.
COPY clients (id, name, api_key) FROM stdin (FORMAT csv);
23,p,key-p
24,q,"key-q"
\.
SELECT * FROM probe.clients() WHERE id >= 20;
-- a copy out and in again is the same
CREATE TABLE copied (LIKE clients);
INSERT INTO copied TABLE clients;
TRUNCATE clients;
INSERT INTO clients TABLE copied;
SELECT count(*), count(api_key), count(api_key_hash) FROM clients;
SELECT count(*) FROM (TABLE clients EXCEPT TABLE copied) AS changed;
DROP TABLE copied;

-- UPDATE
UPDATE clients SET api_key = 'key-a2', name = 'a2' WHERE id = 1;
UPDATE clients SET (name, api_key) = ('b2', 'key-b2') WHERE id = 2;
UPDATE clients SET api_key = NULL WHERE id = 3;
UPDATE clients SET api_key = 'key-d' WHERE id = 4;
SELECT * FROM probe.clients() WHERE id < 5;
-- one that does not touch the key leaves the hash alone, and so does a full-row save
UPDATE clients SET name = name || '!' WHERE id IN (1, 2);
UPDATE clients SET id = id, name = 'a2', api_key = api_key, api_key_hash = api_key_hash WHERE id = 1;
SELECT id, name, api_key, api_key_hash IN (hash_api_key('key-a2'), hash_api_key('key-b2')) FROM clients WHERE id < 3 ORDER BY id;
-- taking a key away from its owner
UPDATE clients SET api_key = NULL, api_key_hash = NULL WHERE id = 2;
SELECT * FROM probe.clients() WHERE id = 2;
UPDATE clients SET api_key = 'key-x' || id WHERE id IN (1, 2) RETURNING id, api_key, api_key_hash = hash_api_key('key-x' || id);
UPDATE clients SET api_key = 'same' WHERE id IN (1, 2);
SELECT probe.answer('UPDATE clients SET api_key = $1 WHERE id = 1', '');

-- MERGE
MERGE INTO clients AS c USING (VALUES (1, 'r', 'key-r'), (30, 's', 'key-s')) AS n (id, name, api_key) ON c.id = n.id
    WHEN MATCHED THEN UPDATE SET name = n.name, api_key = n.api_key
    WHEN NOT MATCHED THEN INSERT (id, name, api_key) VALUES (n.id, n.name, n.api_key);
SELECT * FROM probe.clients() WHERE id IN (1, 30);
-- an insert beside an update that clears a key column is no lost upsert
MERGE INTO clients AS c USING (VALUES (1, 'r', 'key-r'), (31, 't', 'key-t'), (2, 'u', 'key-u')) AS n (id, name, api_key) ON c.id = n.id
    WHEN MATCHED THEN UPDATE SET api_key = NULL
    WHEN NOT MATCHED THEN INSERT (id, name, api_key) VALUES (n.id, n.name, n.api_key);
MERGE INTO clients AS c USING (VALUES (32, 'u', 'key-u'), (1, 'r', NULL)) AS n (id, name, api_key) ON c.id = n.id
    WHEN MATCHED THEN UPDATE SET name = n.name, api_key = n.api_key
    WHEN NOT MATCHED THEN INSERT (id, name, api_key) VALUES (n.id, n.name, n.api_key);
SELECT * FROM probe.clients() WHERE id IN (1, 31, 32);

-- views
CREATE VIEW client_view AS SELECT id, name, api_key FROM clients WHERE id >= 40 WITH CHECK OPTION;
INSERT INTO client_view VALUES (40, 'v', 'key-v');
UPDATE client_view SET api_key = 'key-v2', name = 'v2' WHERE id = 40;
TABLE client_view;
SELECT * FROM probe.clients() WHERE id = 40;
SELECT probe.answer('INSERT INTO client_view VALUES (39, ''w'', $1)', 'marker_1');
DROP VIEW client_view;

-- rules and functions
CREATE TABLE inbox (id integer, name text, api_key text);
CREATE RULE forward AS ON INSERT TO inbox DO INSTEAD INSERT INTO clients VALUES (NEW.id, NEW.name, NEW.api_key);
INSERT INTO inbox VALUES (41, 'w', 'key-w');
SELECT * FROM probe.clients() WHERE id = 41;
DROP TABLE inbox;
CREATE FUNCTION add_client(integer, text, text) RETURNS integer LANGUAGE sql AS 'INSERT INTO clients VALUES ($1, $2, $3) RETURNING id';
SELECT add_client(42, 'x', 'key-x');
SELECT * FROM probe.clients() WHERE id = 42;
DROP FUNCTION add_client;

-- a logical subscriber applies with this role: ordinary triggers are silent, ours are not
SET session_replication_role = replica;
INSERT INTO clients VALUES (43, 'y', 'key-y');
UPDATE clients SET name = 'x9', api_key = 'key-x9' WHERE id = 42;
COPY clients (id, name, api_key) FROM stdin;
44	z	key-z
\.
INSERT INTO clients VALUES (43, 'y', 'key-y2') ON CONFLICT (id) DO UPDATE SET api_key = EXCLUDED.api_key;
RESET session_replication_role;
SELECT * FROM probe.clients() WHERE id BETWEEN 42 AND 44;

-- other triggers before and after ours in the order of names put the key back, change it, or read it
TRUNCATE clients;
CREATE TABLE seen (name text, api_key text);
CREATE FUNCTION note_key() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (TG_NAME, NEW.api_key); RETURN NEW; END $$;
CREATE FUNCTION put_key_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.api_key := 'key-' || NEW.name; RETURN NEW; END $$;
CREATE TRIGGER "aaa" BEFORE INSERT OR UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION note_key();
CREATE TRIGGER "ZZZ" BEFORE INSERT OR UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION note_key();
CREATE TRIGGER "zzz" AFTER INSERT OR UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION note_key();
INSERT INTO clients VALUES (1, 'a', 'key-a');
UPDATE clients SET name = 'b', api_key = 'key-b';
SELECT name, count(*), count(api_key) FROM seen GROUP BY name ORDER BY name COLLATE "C";
SELECT * FROM probe.clients();
CREATE TRIGGER "middle" BEFORE INSERT OR UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION put_key_back();
UPDATE clients SET name = 'c', api_key = 'ignored';
INSERT INTO clients VALUES (2, 'd');
INSERT INTO clients VALUES (3, 'e', 'ignored');
SELECT * FROM probe.clients();
-- and they may fill in a key where there was none
UPDATE clients SET name = 'f' WHERE id = 1;
SELECT * FROM probe.clients();
SELECT name, count(*), count(api_key) FROM seen WHERE api_key IS NOT NULL GROUP BY name ORDER BY name COLLATE "C";
DROP TRIGGER middle ON clients;
CREATE TRIGGER " first of all" BEFORE INSERT OR UPDATE ON clients FOR EACH ROW EXECUTE FUNCTION put_key_back();
INSERT INTO clients VALUES (4, 'g', 'ignored');
SELECT * FROM probe.clients() WHERE id = 4;
-- what sorts after ours has the last word; protect_api_keys warns of it, and the status shows it
DROP TRIGGER " first of all" ON clients;
CREATE TRIGGER "~~~" BEFORE INSERT ON clients FOR EACH ROW EXECUTE FUNCTION put_key_back();
INSERT INTO clients VALUES (5, 'h', 'ignored');
SELECT plaintext FROM api_key_status;
DROP TABLE clients, seen;
DROP FUNCTION note_key, put_key_back, probe.clients;
