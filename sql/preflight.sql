-- pg_api_key: what stands in the way of protecting a table

CREATE FUNCTION @extschema@.api_key_protection(target regclass DEFAULT NULL)
    RETURNS TABLE (protected_table regclass, key_column name, hash_column name, algorithm text,
                   cost integer, tag_column name, tag_bits integer, in_force boolean)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    -- A partition's triggers are clones of its root's, which alone is listed.
    SELECT t.tgrelid::regclass,
           a.args[1]::name,
           a.args[2]::name,
           a.args[3],
           CASE WHEN a.args[3] = 'bcrypt' AND a.args[4] ~ '^[0-9]{1,9}$' THEN a.args[4]::integer END,
           nullif(a.args[5], '')::name,
           CASE WHEN a.args[5] <> '' AND a.args[6] ~ '^[0-9]{1,9}$' THEN a.args[6]::integer END,
           (SELECT count(*) = 3 AND bool_and(every.tgenabled = 'A')
              FROM pg_trigger AS every
             WHERE every.tgrelid = t.tgrelid AND every.tgfoid = t.tgfoid
               AND every.tgargs = t.tgargs
               -- row (1), before (2), insert (4), update (16)
               AND (every.tgname, every.tgtype) IN
                   (('!pg_api_key_first', 23), ('!pg_api_key_upsert', 19), ('~pg_api_key_last', 23)))
           AND NOT EXISTS
               (SELECT FROM pg_partition_tree(t.tgrelid) AS part
                      JOIN pg_trigger AS clone ON clone.tgrelid = part.relid
                WHERE clone.tgfoid = t.tgfoid AND clone.tgenabled <> 'A')
      FROM (SELECT DISTINCT ON (tgrelid) * FROM pg_trigger
             WHERE tgfoid = '@extschema@.hash_api_key_trigger()'::regprocedure
               AND tgname IN ('!pg_api_key_first', '!pg_api_key_upsert', '~pg_api_key_last')
               AND tgparentid = 0
               AND (target IS NULL OR tgrelid = target)
             ORDER BY tgrelid, tgname) AS t
           CROSS JOIN LATERAL (SELECT @extschema@.api_key_trigger_arguments(t.tgargs)) AS a (args)
    $$;
COMMENT ON FUNCTION @extschema@.api_key_protection(regclass) IS
    'protected tables with the arguments of their triggers, and whether all of these are in force';

CREATE FUNCTION @extschema@.api_key_preflight(
    target regclass, key_column name, hash_column name, algorithm text, tag_column name)
    RETURNS TABLE (severity text, code text, finding text, hint text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    key_attribute pg_attribute;
    base_type regtype;
    sample text := CASE algorithm
        WHEN 'bcrypt' THEN '$2a$10$' || repeat('x', 53) ELSE repeat('0', 64) END;
    stored_type text;
    stored_sample text;
    item record;
    passes boolean;
    faults bigint;
BEGIN
    SELECT a.* INTO key_attribute FROM pg_attribute AS a
     WHERE a.attrelid = target AND a.attname = key_column AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'error', 'undefined_column',
            format('column "%s" of table %s does not exist', key_column, target),
            format('Name the column that holds the keys: protect_api_keys(%L, key_column => ...).', target);
        RETURN;
    END IF;
    IF hash_column IN (key_column, tag_column) OR tag_column = key_column THEN
        RETURN QUERY SELECT 'error', 'invalid_parameter_value',
            'key, hash and tag need a column each', 'Choose another hash_column.';
        RETURN;
    END IF;

    -- the type of the key column: text, varchar, char, citext, or a domain over one of them
    WITH RECURSIVE under (oid) AS (
        SELECT key_attribute.atttypid
        UNION ALL
        SELECT t.typbasetype FROM under JOIN pg_type AS t USING (oid) WHERE t.typtype = 'd')
    SELECT t.oid INTO base_type FROM under JOIN pg_type AS t USING (oid)
     WHERE t.typtype <> 'd' AND t.typcategory = 'S' AND t.typlen = -1;
    IF base_type IS NULL THEN
        RETURN QUERY SELECT 'error', 'datatype_mismatch',
            format('column "%s" is of type %s, not of a string type', key_column,
                   format_type(key_attribute.atttypid, key_attribute.atttypmod)),
            format('ALTER TABLE %s ALTER COLUMN %I TYPE text;', target, key_column);
        RETURN;
    END IF;
    IF base_type::text LIKE '%citext' OR EXISTS (
            SELECT FROM pg_collation AS c
             WHERE c.oid = key_attribute.attcollation AND NOT c.collisdeterministic) THEN
        RETURN QUERY SELECT 'warning', '',
            format('column "%s" compares keys loosely, hashes compare them exactly', key_column),
            'A client that sends its key in other letter case will be refused.';
    END IF;

    -- what would make a cleared key an error, or a key that nobody has seen
    IF EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = target AND i.indisprimary
                  AND key_attribute.attnum = ANY (i.indkey)) THEN
        RETURN QUERY SELECT 'error', 'object_not_in_prerequisite_state',
            format('column "%s" is part of the primary key of table %s', key_column, target),
            'The key column will be null; give the table another primary key first.';
    ELSIF key_attribute.attnotnull THEN
        RETURN QUERY SELECT 'error', 'object_not_in_prerequisite_state',
            format('column "%s" of table %s is NOT NULL', key_column, target),
            format('The key column will be null: ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;',
                   target, key_column);
    END IF;
    BEGIN
        EXECUTE format('SELECT NULL::%s', format_type(key_attribute.atttypid, key_attribute.atttypmod));
    EXCEPTION WHEN not_null_violation OR check_violation THEN
        RETURN QUERY SELECT 'error', 'object_not_in_prerequisite_state',
            format('the domain of column "%s" of table %s forbids null', key_column, target),
            format('The key column will be null: ALTER TABLE %s ALTER COLUMN %I TYPE text;',
                   target, key_column);
    END;
    -- PostgreSQL makes a column that a partition key uses depend on its table.
    IF EXISTS (SELECT FROM pg_partition_tree(target) AS part
                      JOIN pg_attribute AS a ON a.attrelid = part.relid AND a.attname = key_column
                      JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass
                           AND d.objid = part.relid AND d.objsubid = a.attnum
                           AND d.refclassid = 'pg_class'::regclass
                           AND d.refobjid = part.relid AND d.refobjsubid = 0) THEN
        RETURN QUERY SELECT 'error', 'object_not_in_prerequisite_state',
            format('column "%s" is part of the partition key of table %s', key_column, target),
            'The key column will be null; partition by another column.';
    END IF;
    IF key_attribute.attgenerated <> '' OR key_attribute.attidentity <> '' THEN
        RETURN QUERY SELECT 'error', 'object_not_in_prerequisite_state',
            format('column "%s" of table %s is generated', key_column, target),
            format('ALTER TABLE %s ALTER COLUMN %I DROP EXPRESSION;', target, key_column);
    ELSIF key_attribute.atthasdef THEN
        RETURN QUERY SELECT 'error', 'object_not_in_prerequisite_state',
            format('column "%s" of table %s has a default', key_column, target),
            format('It would make keys that nobody ever sees: ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT;',
                   target, key_column);
    END IF;

    -- a partition may be stricter than its root
    FOR item IN
        SELECT part.relid, a.attnotnull AND NOT key_attribute.attnotnull AS not_null
          FROM pg_partition_tree(target) AS part
               JOIN pg_attribute AS a ON a.attrelid = part.relid AND a.attname = key_column
         WHERE part.relid <> target
           AND (a.attnotnull AND NOT key_attribute.attnotnull OR a.atthasdef AND NOT key_attribute.atthasdef)
         ORDER BY part.relid::regclass::text
    LOOP
        RETURN QUERY SELECT 'error', 'object_not_in_prerequisite_state',
            format('column "%s" of partition %s %s', key_column, item.relid,
                   CASE WHEN item.not_null THEN 'is NOT NULL' ELSE 'has a default' END),
            format('ALTER TABLE %s ALTER COLUMN %I DROP %s;', item.relid, key_column,
                   CASE WHEN item.not_null THEN 'NOT NULL' ELSE 'DEFAULT' END);
    END LOOP;

    -- what else depends on the key column
    FOR item IN
        SELECT d.classid::regclass::text AS kind, d.objid, c.conname, c.contype,
               pg_get_expr(c.conbin, c.conrelid) AS check_expression,
               cardinality(c.conkey) AS check_columns,
               p.polname, s.stxname, g.attname AS generated_name
          FROM (SELECT DISTINCT classid, objid FROM pg_depend
                 WHERE refclassid = 'pg_class'::regclass AND refobjid = target
                   AND refobjsubid = key_attribute.attnum) AS d
               LEFT JOIN pg_constraint AS c
                      ON d.classid = 'pg_constraint'::regclass AND c.oid = d.objid
               LEFT JOIN pg_policy AS p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
               LEFT JOIN pg_statistic_ext AS s
                      ON d.classid = 'pg_statistic_ext'::regclass AND s.oid = d.objid
               LEFT JOIN pg_attrdef AS e ON d.classid = 'pg_attrdef'::regclass AND e.oid = d.objid
               LEFT JOIN pg_attribute AS g
                      ON g.attrelid = e.adrelid AND g.attnum = e.adnum
                         AND g.attnum <> key_attribute.attnum
         ORDER BY 1, coalesce(c.conname, p.polname, s.stxname, g.attname)
    LOOP
        IF item.contype = 'f' THEN
            RETURN QUERY SELECT 'error', 'object_not_in_prerequisite_state',
                format('foreign key "%s" uses column "%s"', item.conname, key_column),
                'The key column will be null; let the foreign key refer to another column.';
        ELSIF item.contype = 'c' THEN
            passes := NULL;
            IF item.check_columns = 1 THEN
                EXECUTE format('SELECT (%s) FROM (SELECT NULL::%s) AS one (%I)',
                               item.check_expression,
                               format_type(key_attribute.atttypid, key_attribute.atttypmod), key_column)
                   INTO passes;
            END IF;
            IF passes IS FALSE THEN
                RETURN QUERY SELECT 'error', 'object_not_in_prerequisite_state',
                    format('constraint "%s" forbids a null "%s"', item.conname, key_column),
                    format('The key column will be null: ALTER TABLE %s DROP CONSTRAINT %I;', target, item.conname);
            ELSE
                RETURN QUERY SELECT 'warning', '',
                    format('constraint "%s" will see a null "%s"', item.conname, key_column),
                    format('It no longer checks a key. If it is of no use any more: ALTER TABLE %s DROP CONSTRAINT %I;',
                           target, item.conname);
            END IF;
        ELSIF item.polname IS NOT NULL THEN
            RETURN QUERY SELECT 'error', 'object_not_in_prerequisite_state',
                format('policy "%s" uses column "%s"', item.polname, key_column),
                'It would judge by a null key; write it with hash_api_key() and the hash column.';
        ELSIF item.generated_name IS NOT NULL THEN
            RETURN QUERY SELECT 'error', 'object_not_in_prerequisite_state',
                format('generated column "%s" uses column "%s"', item.generated_name, key_column),
                format('It would become null: ALTER TABLE %s ALTER COLUMN %I DROP EXPRESSION; or drop the column.',
                       target, item.generated_name);
        ELSIF item.stxname IS NOT NULL THEN
            RETURN QUERY SELECT 'warning', '',
                format('statistics object "%s" holds values of column "%s"', item.stxname, key_column),
                format('DROP STATISTICS %s;',
                       (SELECT format('%I.%I', n.nspname, x.stxname) FROM pg_statistic_ext AS x
                               JOIN pg_namespace AS n ON n.oid = x.stxnamespace
                         WHERE x.oid = item.objid));
        END IF;
    END LOOP;

    FOR item IN
        SELECT i.indexrelid::regclass AS index_name, i.indisunique, c.conname
          FROM pg_index AS i
               LEFT JOIN pg_constraint AS c ON c.conindid = i.indexrelid AND c.contype IN ('u', 'x')
         WHERE i.indrelid = target AND NOT i.indisprimary
           AND EXISTS (SELECT FROM pg_depend AS d
                        WHERE d.refobjid = target AND d.refobjsubid = key_attribute.attnum
                          AND d.objid IN (i.indexrelid, c.oid))
         ORDER BY 1
    LOOP
        RETURN QUERY SELECT 'warning', '',
            format('index %s is on column "%s"', item.index_name, key_column),
            'Its pages keep old keys' || CASE WHEN item.indisunique
                THEN ', and the hash column''s index takes over uniqueness' ELSE '' END
            || '. When the table is migrated: '
            || CASE WHEN item.conname IS NULL THEN format('DROP INDEX %s;', item.index_name)
                    ELSE format('ALTER TABLE %s DROP CONSTRAINT %I;', target, item.conname) END;
    END LOOP;

    -- children that row triggers of their parent do not reach
    FOR item IN
        SELECT i.inhrelid::regclass AS child
          FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
         WHERE i.inhparent = target AND NOT c.relispartition
           AND NOT EXISTS (SELECT FROM @extschema@.api_key_protection(i.inhrelid))
         ORDER BY 1
    LOOP
        RETURN QUERY SELECT 'error', 'object_not_in_prerequisite_state',
            format('table %s inherits from %s and is not protected', item.child, target),
            format('Triggers are not inherited; first: SELECT %s(%L, %L, %L, %L);',
                   '@extschema@.protect_api_keys', item.child, key_column, hash_column, algorithm);
    END LOOP;

    -- who else sees the rows
    FOR item IN
        SELECT t.tgname, t.tgtype & 2 = 2 AS before, t.tgtype & 16 = 16 AS on_update,
               t.tgname < '!pg_api_key_first' COLLATE "C" OR t.tgname > '~pg_api_key_last' COLLATE "C" AS outside
          FROM pg_trigger AS t
         WHERE t.tgrelid = target AND NOT t.tgisinternal AND t.tgtype & 20 <> 0
           AND t.tgfoid <> '@extschema@.hash_api_key_trigger()'::regprocedure
         ORDER BY 1
    LOOP
        RETURN QUERY SELECT 'warning', '',
            format('trigger "%s" %s', item.tgname,
                   CASE WHEN item.before AND item.outside THEN 'runs outside of the protecting ones'
                        WHEN item.before OR NOT item.on_update THEN 'will not see new keys'
                        ELSE 'sees old keys while the table is migrated' END),
            CASE WHEN item.before AND item.outside
                 THEN format('It sees keys, or can put them back. Give it a name between ! and ~: ALTER TRIGGER %I ON %s RENAME TO ...;', item.tgname, target)
                 WHEN item.before OR NOT item.on_update THEN 'The key is hashed and cleared before it runs.'
                 ELSE 'OLD still holds the key; see that it is not written anywhere.' END;
    END LOOP;
    FOR item IN
        SELECT r.rulename FROM pg_rewrite AS r
         WHERE r.ev_class = target AND r.ev_type <> '1' ORDER BY 1
    LOOP
        RETURN QUERY SELECT 'warning', '',
            format('rule "%s" rewrites commands on table %s', item.rulename, target),
            'Where it writes keys elsewhere, no trigger of this table hashes them.';
    END LOOP;
    FOR item IN
        SELECT p.pubname FROM pg_publication AS p,
               LATERAL pg_get_publication_tables(p.pubname) AS published
         WHERE published.relid IN (SELECT relid FROM pg_partition_tree(target) UNION SELECT target)
         GROUP BY 1 ORDER BY 1
    LOOP
        RETURN QUERY SELECT 'warning', '',
            format('publication "%s" sends rows of table %s', item.pubname, target),
            'Add the hash column on the subscribers, and protect their tables too.';
    END LOOP;
    FOR item IN
        SELECT c.oid::regclass AS sender FROM pg_class AS c
         WHERE c.oid IN (SELECT relid FROM pg_partition_tree(target) UNION SELECT target)
           AND c.relreplident = 'f'
         ORDER BY c.oid::regclass::text
    LOOP
        RETURN QUERY SELECT 'warning', '',
            format('the replica identity of table %s carries column "%s"', item.sender, key_column),
            format('Old keys go into the replication stream: ALTER TABLE %s REPLICA IDENTITY DEFAULT;', item.sender);
    END LOOP;

    -- the columns for hash and tag, where they exist already
    SELECT format_type(a.atttypid, a.atttypmod) AS declared, a.attgenerated <> '' AS is_generated,
           a.atttypid INTO item
      FROM pg_attribute AS a
     WHERE a.attrelid = target AND a.attname = hash_column AND NOT a.attisdropped;
    stored_type := item.declared;
    IF item.is_generated THEN
        RETURN QUERY SELECT 'error', 'object_not_in_prerequisite_state',
            format('column "%s" of table %s is generated', hash_column, target),
            'A trigger can''t set it; choose another hash_column.';
    ELSIF stored_type IS NOT NULL THEN
        BEGIN
            EXECUTE format('SELECT (%L::%s)::text', sample, stored_type) INTO stored_sample;
        EXCEPTION WHEN OTHERS THEN
            stored_sample := NULL;
        END;
        IF stored_sample IS DISTINCT FROM sample OR NOT EXISTS (
            -- what the trigger can write; a domain has its base type's category and length
            SELECT FROM pg_type AS t
             WHERE t.oid = item.atttypid AND t.typcategory = 'S' AND t.typlen = -1)
        THEN
            RETURN QUERY SELECT 'error', 'datatype_mismatch',
                format('column "%s" of type %s can''t hold a hash of %s characters',
                       hash_column, stored_type, length(sample)),
                format('ALTER TABLE %s ALTER COLUMN %I TYPE text;', target, hash_column);
        ELSE
            EXECUTE format('SELECT count(*) FROM %s WHERE NOT @extschema@.is_api_key_hash(%I::text)',
                           target, hash_column)
               INTO faults;
            IF faults > 0 THEN
                RETURN QUERY SELECT 'warning', '',
                    format('values in column "%s" that are not hashes: %s', hash_column, faults),
                    format('They match no key. A key stored there by mistake is put right by: UPDATE %1$s SET %2$I = %3$I WHERE %2$I IS NULL AND NOT @extschema@.is_api_key_hash(%3$I);',
                           target, key_column, hash_column);
            END IF;
        END IF;
    END IF;
    SELECT a.atttypid INTO item FROM pg_attribute AS a
     WHERE a.attrelid = target AND a.attname = tag_column AND NOT a.attisdropped;
    IF FOUND AND item.atttypid <> 'integer'::regtype THEN
        RETURN QUERY SELECT 'error', 'datatype_mismatch',
            format('column "%s" is not of type integer', tag_column),
            format('The tags of bcrypt hashes go there: ALTER TABLE %s RENAME COLUMN %I TO ...;', target, tag_column);
    END IF;

    -- the keys themselves
    FOR item IN EXECUTE format(
        'SELECT fault, count(*) AS rows FROM (
             SELECT @extschema@.api_key_fault(%1$I::text, %2$L) AS fault FROM %3$s) AS key
          WHERE fault IS NOT NULL GROUP BY fault ORDER BY fault', key_column, algorithm, target)
    LOOP
        RETURN QUERY SELECT 'warning', '',
            format('%s of the keys of table %s can''t be hashed: %s', item.rows, target, item.fault),
            'They stay in plaintext until they are replaced.';
    END LOOP;
    IF algorithm = 'sha256' AND NOT EXISTS (
            SELECT FROM pg_index AS i
             WHERE i.indrelid = target AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1
               AND i.indkey[0] = key_attribute.attnum AND i.indpred IS NULL) THEN
        EXECUTE format(
            'SELECT count(*) FROM (
                 SELECT FROM %2$s
                  WHERE @extschema@.api_key_fault(%1$I::text) IS NULL
                  GROUP BY %1$I::text COLLATE "C" HAVING count(*) > 1 AND count(%1$I) > 1) AS key', key_column, target)
           INTO faults;
        IF faults > 0 THEN
            RETURN QUERY SELECT 'warning', '',
                format('keys of table %s that belong to more than one row: %s', target, faults),
                'Their hashes are equal, and the unique index takes one of each.';
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.api_key_preflight(regclass, name, name, text, name) IS
    'what forbids (error) or should be known before (warning) protecting a table; protect_api_keys raises it';
