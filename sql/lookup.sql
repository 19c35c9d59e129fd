-- pg_api_key: from a key to its row

CREATE FUNCTION @extschema@.find_by_api_key("row" anyelement, key text) RETURNS SETOF anyelement
    AS 'MODULE_PATHNAME', 'find_by_api_key_wrapper'
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED COST 100 ROWS 1;
COMMENT ON FUNCTION @extschema@.find_by_api_key(anyelement, text) IS
    'rows of a protected table that the API key belongs to: SELECT * FROM find_by_api_key(NULL::clients, $1)';

CREATE FUNCTION @extschema@.api_key_equality(relation regclass, column_name name) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    -- The operator of the type's default btree class, so that an index of the column serves.
    WITH RECURSIVE under (oid) AS (
        SELECT a.atttypid FROM pg_attribute AS a
         WHERE a.attrelid = relation AND a.attname = column_name AND NOT a.attisdropped
         UNION ALL
        SELECT t.typbasetype FROM under JOIN pg_type AS t USING (oid) WHERE t.typtype = 'd')
    SELECT format('OPERATOR(%I.%s) $::%I.%I', n.nspname, o.oprname, tn.nspname, t.typname)
      FROM under
           JOIN pg_opclass AS c ON c.opcdefault
                AND c.opcintype = CASE under.oid WHEN 'varchar'::regtype THEN 'text'::regtype ELSE under.oid END
           JOIN pg_am AS m ON m.oid = c.opcmethod AND m.amname = 'btree'
           JOIN pg_amop AS e ON e.amopfamily = c.opcfamily AND e.amopstrategy = 3
                AND e.amoplefttype = c.opcintype AND e.amoprighttype = c.opcintype
           JOIN pg_operator AS o ON o.oid = e.amopopr
           JOIN pg_namespace AS n ON n.oid = o.oprnamespace
           JOIN pg_type AS t ON t.oid = c.opcintype
           JOIN pg_namespace AS tn ON tn.oid = t.typnamespace
    $$;
COMMENT ON FUNCTION @extschema@.api_key_equality(regclass, name) IS
    'the operator and right side by which a string column is compared, with $ for the value';

-- What a look-up has to know of a row type. A view serves if it shows the columns of the one
-- protected table under it.
CREATE FUNCTION @extschema@.api_key_lookup(relation regclass)
    RETURNS TABLE (protected_table regclass, hash_column text, hash_equals text, tag_bits integer, in_force boolean,
                   query text, fallback_query text, left_query text, untagged_query text, owner oid,
                   hash_number integer, key_number integer)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    WITH under (relid) AS (
        SELECT coalesce(pg_partition_root(relation), relation)
         UNION
        SELECT d.refobjid FROM pg_rewrite AS r
               JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
         WHERE r.ev_class = relation AND d.refclassid = 'pg_class'::regclass
    ), found AS MATERIALIZED ( -- or what its columns say would be asked for wherever they stand
        SELECT p.protected_table, p.tag_bits, p.in_force,
               (SELECT attnum::integer FROM pg_attribute WHERE attrelid = relation AND attname = p.hash_column) AS hash_number,
               (SELECT attnum::integer FROM pg_attribute WHERE attrelid = relation AND attname = p.key_column) AS key_number,
               -- The columns as the row type has them, so that the executor has nothing to rearrange.
               (SELECT string_agg(CASE WHEN attisdropped THEN 'NULL::integer' ELSE format('t.%I', attname) END, ', ' ORDER BY attnum)
                  FROM pg_attribute WHERE attrelid = relation AND attnum > 0) AS columns,
               quote_ident(p.hash_column) AS hash, @extschema@.api_key_equality(relation, p.hash_column) AS hash_equals,
               quote_ident(p.tag_column) AS tag,
               quote_ident(p.key_column) AS key, @extschema@.api_key_equality(relation, p.key_column) AS key_equals,
               (SELECT format('%I.%I AS t', n.nspname, c.relname)
                  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation) AS source,
               format('%I.%I AS t', n.nspname, c.relname) AS whole_table, c.relowner AS owner
          FROM under
               CROSS JOIN LATERAL @extschema@.api_key_protection(under.relid) AS p
               JOIN pg_class AS c ON c.oid = p.protected_table
               JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE p.tag_column IS NULL
            OR EXISTS (SELECT FROM pg_attribute AS a
                        WHERE a.attrelid = relation AND a.attname = p.tag_column AND NOT a.attisdropped)
    ), matching AS (
        -- $1 is the SHA-256 of the key, $2 its tag where there are tags, and the last the key itself.
        SELECT *, format('t.%s %s', hash, replace(hash_equals, ') $::', ') $1::'))
                  || CASE WHEN tag IS NULL THEN '' ELSE format(' OR t.%s OPERATOR(pg_catalog.=) $2', tag) END AS by_hash,
                  format('t.%s %s', key, replace(key_equals, ') $::',
                         CASE WHEN tag IS NULL THEN ') $2::' ELSE ') $3::' END)) AS by_key
          FROM found WHERE hash_equals IS NOT NULL)
    SELECT protected_table, hash, hash_equals, tag_bits, in_force,
           format('SELECT %s FROM %s WHERE %s', columns, source, by_hash),
           CASE WHEN key_equals IS NOT NULL
                THEN format('SELECT %s FROM %s WHERE %s OR %s', columns, source, by_hash, by_key) END,
           CASE WHEN key_equals IS NOT NULL
                THEN format('SELECT FROM %s WHERE t.%s IS NOT NULL LIMIT 1', whole_table, key) END,
           -- An application that hashes with bcrypt itself knows of no tags.
           CASE WHEN tag IS NOT NULL
                THEN format('SELECT %s FROM %s WHERE t.%s IS NULL AND pg_catalog.starts_with(t.%s::text, ''$2'')',
                            columns, source, tag, hash) END,
           owner, hash_number, key_number
      FROM matching
    $$;
COMMENT ON FUNCTION @extschema@.api_key_lookup(regclass) IS
    'the queries by which find_by_api_key searches a table, a partition or a view: by hash and tag, by the plaintext too, for whether plaintext is left, and for bcrypt hashes without a tag';
