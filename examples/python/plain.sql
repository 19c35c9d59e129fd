-- The table of the psycopg program, run by its owner.
CREATE EXTENSION IF NOT EXISTS pg_api_key;
CREATE TABLE clients (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    api_key text
);
SELECT protect_api_keys('clients');
