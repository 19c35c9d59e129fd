-- the extension installs, and puts nothing where it was not asked to
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
CREATE EXTENSION pg_api_key;
SELECT extname, nspname FROM pg_extension JOIN pg_namespace AS n ON n.oid = extnamespace WHERE extname = 'pg_api_key';
SELECT DISTINCT (pg_identify_object(classid, objid, 0)).schema FROM pg_depend JOIN pg_extension AS e ON refobjid = e.oid WHERE deptype = 'e' AND extname = 'pg_api_key' AND classid <> 'pg_type'::regclass;

-- the other tests' probe: runs a statement with a key as its $1, and tells what PostgreSQL answers;
-- the key must be in none of it
CREATE SCHEMA probe;
CREATE FUNCTION probe.answer(statement text, key text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    state text;
    message text;
    detail text;
    hint text;
    context text;
BEGIN
    IF statement ~ '^(INSERT|UPDATE|MERGE)' THEN
        EXECUTE statement USING key;
        RETURN 'done';
    END IF;
    EXECUTE statement INTO result USING key;
    RETURN coalesce(result, '(null)');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, context = PG_EXCEPTION_CONTEXT;
    IF strpos(concat_ws(' ', message, detail, hint, context), nullif(trim(key, E' \t\r\n'), '')) > 0 THEN
        RETURN 'THE KEY LEAKS';
    END IF;
    RETURN concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, ''));
END
$$;
GRANT USAGE ON SCHEMA probe TO PUBLIC;
SELECT probe.answer('SELECT $1', 'k');
SELECT probe.answer('SELECT $1::integer', 'k');
