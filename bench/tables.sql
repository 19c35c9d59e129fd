-- The same :rows clients three times, in a schema of their own: as they were, and protected and
-- migrated, when the old column has no index any more.

CREATE SCHEMA :schema;
SET search_path = :schema, public;

CREATE TABLE plaintext (id integer PRIMARY KEY, name text NOT NULL, api_key text UNIQUE);
INSERT INTO plaintext SELECT i, 'client ' || i, key_of(i) FROM generate_series(1, :rows) AS i;

CREATE TABLE sha256 (id integer PRIMARY KEY, name text NOT NULL, api_key text, api_key_hash text COLLATE "C");
INSERT INTO sha256 SELECT id, name, NULL, hash_api_key(api_key) FROM plaintext;
SELECT protect_api_keys('sha256');

-- The keys that will be asked for get their true hashes.
CREATE TABLE bcrypt (id integer PRIMARY KEY, name text NOT NULL, api_key text, api_key_hash text COLLATE "C", api_key_tag integer);
INSERT INTO bcrypt
SELECT id, name, NULL, coalesce(hash, nobodys_hash(id)), api_key_tag(api_key)
  FROM plaintext
       LEFT JOIN (SELECT ordinality AS id, hash
                    FROM unnest((SELECT hash_api_keys(array_agg(api_key ORDER BY id), 'bcrypt', 10)
                                   FROM plaintext WHERE id <= :probes)) WITH ORDINALITY AS true_hash (hash)) AS probe USING (id);
SELECT protect_api_keys('bcrypt', algorithm => 'bcrypt');

VACUUM (FREEZE, ANALYZE) plaintext, sha256, bcrypt;
