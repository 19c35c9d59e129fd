-- what the extension puts into the catalogues: the design's table, and the rules of the house
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

CREATE VIEW probe.members AS SELECT d.classid, d.objid, (pg_identify_object(d.classid, d.objid, 0)).* FROM pg_depend AS d JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid WHERE d.deptype = 'e' AND e.extname = 'pg_api_key' AND d.classid <> 'pg_type'::regclass;
CREATE VIEW probe.functions AS SELECT p.* FROM pg_proc AS p JOIN probe.members AS m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid;

-- volatility, strictness, parallel mode
SELECT oid::regprocedure, CASE provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END, CASE WHEN proisstrict THEN 'strict' ELSE 'not strict' END, CASE proparallel WHEN 's' THEN 'parallel safe' ELSE 'parallel unsafe' END FROM probe.functions WHERE proname IN ('hash_api_key', 'verify_api_key', 'api_key_tag', 'generate_api_key', 'api_key_checksum_valid', 'api_key_needs_rehash') ORDER BY oid::regprocedure::text COLLATE "C";
SELECT procost > 1000 FROM probe.functions WHERE proname = 'verify_api_key';
-- names and defaults are part of the contract
SELECT proname, pg_get_function_arguments(oid), pg_get_function_result(oid) FROM probe.functions WHERE proname IN ('hash_api_key', 'verify_api_key', 'api_key_tag', 'generate_api_key', 'api_key_checksum_valid', 'api_key_needs_rehash', 'protect_api_keys', 'unprotect_api_keys', 'hash_api_key_trigger') ORDER BY oid::regprocedure::text COLLATE "C";
SELECT attname FROM pg_attribute WHERE attrelid = 'api_key_status'::regclass ORDER BY attnum;
-- no function with the rights of its owner, none that may run before a security barrier
SELECT oid::regprocedure FROM probe.functions WHERE prosecdef OR proleakproof;
-- all that speak SQL pin the search_path; a procedure that commits can't
SELECT f.oid::regprocedure FROM probe.functions AS f JOIN pg_language AS l ON l.oid = prolang WHERE l.lanname IN ('sql', 'plpgsql') AND prokind <> 'p' AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false);
-- every object says what it is for
SELECT identity FROM probe.members WHERE obj_description(objid, classid::regclass::name) IS NULL;
SELECT m.identity, a.attname FROM probe.members AS m JOIN pg_attribute AS a ON a.attrelid = m.objid AND a.attnum > 0 WHERE m.classid = 'pg_class'::regclass AND col_description(a.attrelid, a.attnum) IS NULL;
SELECT obj_description(oid, 'pg_extension') FROM pg_extension WHERE extname = 'pg_api_key';
-- comments are phrases: no capital, no full stop
SELECT objoid::regprocedure FROM pg_description WHERE classoid = 'pg_proc'::regclass AND objoid IN (SELECT oid FROM probe.functions) AND (description ~ '\.$' OR description ~ '^[A-Z][a-z]');
SELECT extrelocatable, extversion ~ '^\d+\.\d+\.\d+$' FROM pg_extension WHERE extname = 'pg_api_key';
SELECT superuser, trusted FROM pg_available_extension_versions WHERE name = 'pg_api_key' AND installed;
SELECT hash_api_key('load') IS NOT NULL;
SELECT context, vartype, min_val, max_val, boot_val FROM pg_settings WHERE name = 'pg_api_key.max_bcrypt_cost';
DROP VIEW probe.functions, probe.members;
