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
    SELECT format('OPERATOR(%I.%s) $::%s', n.nspname, o.oprname, c.opcintype::regtype)
      FROM under
           JOIN pg_opclass AS c ON c.opcdefault
                AND c.opcintype = CASE under.oid WHEN 'varchar'::regtype THEN 'text'::regtype ELSE under.oid END
           JOIN pg_am AS m ON m.oid = c.opcmethod AND m.amname = 'btree'
           JOIN pg_amop AS e ON e.amopfamily = c.opcfamily AND e.amopstrategy = 3
                AND e.amoplefttype = c.opcintype AND e.amoprighttype = c.opcintype
           JOIN pg_operator AS o ON o.oid = e.amopopr
           JOIN pg_namespace AS n ON n.oid = o.oprnamespace
    $$;
COMMENT ON FUNCTION @extschema@.api_key_equality(regclass, name) IS
    'the operator and right side by which a string column is compared, with $ for the value';

-- What a look-up has to know of a row type: the columns, how to compare them, and whether rows in
-- plaintext can be left. A view serves if it shows the columns of the one protected table under it.
CREATE FUNCTION @extschema@.api_key_lookup(relation regclass)
    RETURNS TABLE (protected_table regclass, key_column text, key_equals text, hash_column text,
                   hash_equals text, tag_column text, tag_bits integer, in_force boolean)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    WITH under (relid) AS (
        SELECT coalesce(pg_partition_root(relation), relation)
         UNION
        SELECT d.refobjid FROM pg_rewrite AS r
               JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
         WHERE r.ev_class = relation AND d.refclassid = 'pg_class'::regclass)
    SELECT p.protected_table,
           quote_ident(p.key_column), @extschema@.api_key_equality(relation, p.key_column),
           quote_ident(p.hash_column), @extschema@.api_key_equality(relation, p.hash_column),
           quote_ident(p.tag_column), p.tag_bits, p.in_force
      FROM under
           CROSS JOIN LATERAL @extschema@.api_key_protection(under.relid) AS p
     WHERE @extschema@.api_key_equality(relation, p.hash_column) IS NOT NULL
       AND (p.tag_column IS NULL
            OR EXISTS (SELECT FROM pg_attribute AS a
                        WHERE a.attrelid = relation AND a.attname = p.tag_column))
    $$;
COMMENT ON FUNCTION @extschema@.api_key_lookup(regclass) IS
    'the protection by which find_by_api_key searches a table, a partition or a view';
