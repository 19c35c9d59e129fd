-- A trusted extension: who may create schemas in the database may create it.
CREATE EXTENSION IF NOT EXISTS pg_api_key;
