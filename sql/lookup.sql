-- pg_api_key: from a key to its row

CREATE FUNCTION @extschema@.find_by_api_key("row" anyelement, key text) RETURNS SETOF anyelement
    AS 'MODULE_PATHNAME', 'find_by_api_key_wrapper'
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED COST 100 ROWS 1;
COMMENT ON FUNCTION @extschema@.find_by_api_key(anyelement, text) IS
    'rows of a protected table that the API key belongs to: SELECT * FROM find_by_api_key(NULL::clients, $1)';

CREATE FUNCTION @extschema@.api_key_equality(string_type oid) RETURNS text
    AS 'MODULE_PATHNAME', 'api_key_equality_wrapper'
    LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.api_key_equality(oid) IS
    'the operator and right side by which a column of a string type is compared, with $ for the value';

CREATE FUNCTION @extschema@.api_key_family(target regclass) RETURNS oid[]
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    WITH RECURSIVE family (relid) AS (
        SELECT target::oid
         UNION
        SELECT inhrelid FROM pg_inherits JOIN family ON inhparent = relid)
    SELECT array_agg(relid) FROM family
    $$;
COMMENT ON FUNCTION @extschema@.api_key_family(regclass) IS
    'a table, its partitions and its inheritance children';

-- What a look-up has to know of a row type. A view serves if it shows the columns of the one
-- protected table under it.
CREATE FUNCTION @extschema@.api_key_lookup(relation regclass)
    RETURNS TABLE (protected_table regclass, hash_column text, hash_equals text, tag_bits integer,
                   query text, fallback_query text, left_query text, untagged_query text, owner oid,
                   hash_number integer, key_number integer, family oid[],
                   hash_index oid, tag_index oid)
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    WITH under (relid) AS (
        SELECT coalesce(pg_partition_root(relation), relation)
         UNION
        SELECT d.refobjid FROM pg_rewrite AS r
               JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
         WHERE r.ev_class = relation AND d.refclassid = 'pg_class'::regclass
    ), shown AS (
        SELECT * FROM pg_attribute WHERE attrelid = relation AND NOT attisdropped
    ), found AS MATERIALIZED ( -- or what its columns say would be asked for wherever they stand
        SELECT p.protected_table, p.tag_bits,
               -- Whether plaintext that is gone stays away, and the owner may ask whether it is.
               p.in_force AND (SELECT relkind <> 'm' FROM pg_class WHERE oid = relation)
               AND has_schema_privilege(c.relowner, n.oid, 'USAGE')
               AND has_column_privilege(c.relowner, c.oid, p.key_column, 'SELECT')
               AND NOT EXISTS ( -- a foreign partition, or a child without the triggers
                   SELECT FROM pg_class AS one
                    WHERE one.oid = ANY (family) AND one.oid <> c.oid
                      AND (one.relkind NOT IN ('r', 'p')
                           OR (SELECT count(*) < 3 FROM pg_trigger
                                WHERE tgrelid = one.oid AND tgenabled = 'A'
                                  AND tgfoid = '@extschema@.hash_api_key_trigger()'::regprocedure))) AS closes,
               family,
               h.attnum::integer AS hash_number, k.attnum::integer AS key_number,
               -- The columns as the row type has them, so that the executor has nothing to rearrange.
               (SELECT string_agg(CASE WHEN attisdropped THEN 'NULL::integer' ELSE format('t.%I', attname) END, ', ' ORDER BY attnum)
                  FROM pg_attribute WHERE attrelid = relation AND attnum > 0) AS columns,
               -- where one probe of an index finds the row; a partition or a view has it elsewhere
               CASE WHEN relation = c.oid AND c.relkind = 'r'
                    THEN @extschema@.api_key_index(relation, p.hash_column, false) END AS hash_index,
               CASE WHEN relation = c.oid AND c.relkind = 'r' AND p.tag_column IS NOT NULL
                    THEN @extschema@.api_key_index(relation, p.tag_column, false) END AS tag_index,
               quote_ident(p.hash_column) AS hash, @extschema@.api_key_equality(h.atttypid) AS hash_equals,
               quote_ident(p.tag_column) AS tag,
               quote_ident(p.key_column) AS key, @extschema@.api_key_equality(k.atttypid) AS key_equals,
               (SELECT format('%I.%I AS t', n.nspname, c.relname)
                  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = relation) AS source,
               format('%I.%I AS t', n.nspname, c.relname) AS whole_table, c.relowner AS owner
          FROM under
               CROSS JOIN LATERAL @extschema@.api_key_protection(under.relid) AS p
               JOIN pg_class AS c ON c.oid = p.protected_table
               JOIN pg_namespace AS n ON n.oid = c.relnamespace
               CROSS JOIN LATERAL @extschema@.api_key_family(c.oid) AS family
               -- Of variable length, as strings are: a trigger may have been made by hand.
               JOIN shown AS h ON h.attname = p.hash_column AND h.attlen = -1
               LEFT JOIN shown AS k ON k.attname = p.key_column AND k.attlen = -1
         WHERE p.tag_column IS NULL OR p.tag_column IN (SELECT attname FROM shown)
    )
    -- $1 is the SHA-256 of the key, and $2 its tag; in the fallback query $1 is the key itself.
    SELECT protected_table, hash, hash_equals, tag_bits,
           format('SELECT %s FROM %s WHERE t.%s %s', columns, source, hash, replace(hash_equals, ' $::', ' $1::'))
               || CASE WHEN tag IS NULL THEN '' ELSE format(' OR t.%s OPERATOR(pg_catalog.=) $2', tag) END,
           CASE WHEN key_equals IS NOT NULL
                THEN format('SELECT %s FROM %s WHERE t.%s %s', columns, source, key, replace(key_equals, ' $::', ' $1::')) END,
           CASE WHEN key_equals IS NOT NULL AND closes
                THEN format('SELECT FROM %s WHERE t.%s IS NOT NULL LIMIT 1', whole_table, key) END,
           -- An application that hashes with bcrypt itself knows of no tags.
           CASE WHEN tag IS NOT NULL
                THEN format('SELECT %s FROM %s WHERE t.%s IS NULL AND pg_catalog.starts_with(t.%s::text, ''$2'')',
                            columns, source, tag, hash) END,
           owner, hash_number, key_number, family, hash_index, tag_index
      FROM found
     WHERE hash_equals IS NOT NULL
    $$;
COMMENT ON FUNCTION @extschema@.api_key_lookup(regclass) IS
    'the queries by which find_by_api_key searches a table, a partition or a view: by hash and tag, in plaintext, for whether any is left (null: take it that some is), and for bcrypt hashes without a tag; and the indexes that serve the first for a plain table';
