-- the extension installs, and puts nothing where it was not asked to
CREATE EXTENSION pg_api_key;
SELECT extname, nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_api_key';
