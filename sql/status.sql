-- pg_api_key: what is protected, and how far its migration is

CREATE FUNCTION @extschema@.count_api_keys(target regclass, key_column name, hash_column name)
    RETURNS TABLE (plaintext bigint, hashed bigint)
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    AS $$
BEGIN
    -- A column may be gone or renamed, and a temporary table another session's.
    IF (SELECT count(*) = 2
               AND bool_and(has_column_privilege(a.attrelid, a.attnum, 'SELECT')
                            AND has_schema_privilege(c.relnamespace, 'USAGE'))
          FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
         WHERE a.attrelid = target AND a.attname IN (key_column, hash_column) AND NOT a.attisdropped
           AND NOT pg_is_other_temp_schema(c.relnamespace))
       AND NOT row_security_active(target)
    THEN
        RETURN QUERY EXECUTE format('SELECT count(%I), count(%I) FROM %s', key_column, hash_column, target);
    ELSE
        RETURN QUERY SELECT NULL::bigint, NULL::bigint;
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.count_api_keys(regclass, name, name) IS
    'rows with a plaintext key and rows with a hash; nulls where the columns or all rows can''t be read';

CREATE VIEW @extschema@.api_key_status AS
    SELECT p.protected_table, p.key_column, p.hash_column, c.plaintext, c.hashed,
           p.algorithm, p.cost, p.tag_column, p.tag_bits, p.in_force AS triggers_in_force
      FROM @extschema@.api_key_protection() AS p
           LEFT JOIN LATERAL @extschema@.count_api_keys(p.protected_table, p.key_column, p.hash_column) AS c ON true;
COMMENT ON VIEW @extschema@.api_key_status IS
    'one row per protected table: plaintext keys left, hashes, algorithm, cost, tag bits, triggers in force';
COMMENT ON COLUMN @extschema@.api_key_status.protected_table IS 'the table';
COMMENT ON COLUMN @extschema@.api_key_status.key_column IS 'where keys are written, and null when read';
COMMENT ON COLUMN @extschema@.api_key_status.hash_column IS 'where their hashes are stored';
COMMENT ON COLUMN @extschema@.api_key_status.plaintext IS 'rows whose key is still in plaintext';
COMMENT ON COLUMN @extschema@.api_key_status.hashed IS 'rows that hold a hash';
COMMENT ON COLUMN @extschema@.api_key_status.algorithm IS 'algorithm of new hashes';
COMMENT ON COLUMN @extschema@.api_key_status.cost IS 'bcrypt cost of new hashes';
COMMENT ON COLUMN @extschema@.api_key_status.tag_column IS 'where the look-up tags of bcrypt hashes are stored';
COMMENT ON COLUMN @extschema@.api_key_status.tag_bits IS 'bits of a tag';
COMMENT ON COLUMN @extschema@.api_key_status.triggers_in_force IS 'whether all triggers are there and enabled ALWAYS';
GRANT SELECT ON @extschema@.api_key_status TO PUBLIC;
