-- pg_api_key: erasing what dead rows have left in pages

CREATE FUNCTION @extschema@.api_key_scrub_pages(
    relation oid, key_number integer, scrub boolean, every_page boolean,
    OUT pages bigint, OUT dirty bigint, OUT residues bigint) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'api_key_scrub_pages_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 100000 ROWS 1;
COMMENT ON FUNCTION @extschema@.api_key_scrub_pages(oid, integer, boolean, boolean) IS
    'counts (and scrubs) the pages of a relation that hold bytes of dead rows, and the dead rows or index entries that hold a value of the column with that number; for its owner';

CREATE FUNCTION @extschema@.api_key_xmin_holders()
    RETURNS TABLE (holder text, remedy text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    -- Who may not see a session's details sees these all the same.
    SELECT format('%s %s of user "%s"%s, transaction open%s',
                  CASE coalesce(backend_type, 'client backend') WHEN 'client backend' THEN 'session' ELSE backend_type END,
                  pid, usename,
                  CASE WHEN coalesce(application_name, '') = '' THEN '' ELSE format(' (%s)', application_name) END,
                  ' since ' || date_trunc('second', xact_start)),
           format('SELECT pg_terminate_backend(%s);', pid)
      FROM pg_stat_activity
     WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid()
       AND datname = current_database()
       -- VACUUM does not hold itself up, a parallel worker goes with its leader.
       AND coalesce(backend_type, '') NOT IN ('autovacuum worker', 'parallel worker', 'walsender')
     UNION ALL
    SELECT format('prepared transaction "%s" of user "%s"', gid, owner),
           format('ROLLBACK PREPARED %L;', gid)
      FROM pg_prepared_xacts WHERE database = current_database()
     UNION ALL
    SELECT format('replication slot "%s"', slot_name),
           CASE WHEN active THEN 'let its consumer catch up'
                ELSE format('SELECT pg_drop_replication_slot(%L);', slot_name) END
      FROM pg_replication_slots WHERE xmin IS NOT NULL
     UNION ALL
    SELECT format('standby "%s", by hot_standby_feedback', application_name),
           'end the long query on the standby'
      FROM pg_stat_replication WHERE backend_xmin IS NOT NULL
    $$;
COMMENT ON FUNCTION @extschema@.api_key_xmin_holders() IS
    'sessions, prepared transactions, slots and standbys that may keep dead rows from being vacuumed';

CREATE FUNCTION @extschema@.api_key_storage(target regclass, key_column name)
    RETURNS TABLE (relation regclass, kind text, key_number integer, can_be_scrubbed boolean)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    WITH leaf AS (
        SELECT c.oid, c.reltoastrelid, c.relam,
               (SELECT a.attnum FROM pg_attribute AS a
                 WHERE a.attrelid = c.oid AND a.attname = key_column AND NOT a.attisdropped) AS attnum
          FROM (SELECT relid FROM pg_partition_tree(target) UNION SELECT target) AS tree (relid)
               JOIN pg_class AS c ON c.oid = tree.relid
         WHERE c.relkind = 'r')
    SELECT oid::regclass, 'table', attnum::integer,
           (SELECT amname = 'heap' FROM pg_am WHERE pg_am.oid = relam)
      FROM leaf
     UNION ALL
    -- Which column a chunk is of can't be told: those of any count.
    SELECT reltoastrelid::regclass, 'toast',
           (SELECT a.attnum::integer FROM pg_attribute AS a WHERE a.attrelid = reltoastrelid AND a.attname = 'chunk_data'), true
      FROM leaf WHERE reltoastrelid <> 0
     UNION ALL
    SELECT i.indexrelid::regclass, 'index',
           coalesce((SELECT min(k.place)::integer
                       FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (number, place)
                      WHERE i.indrelid = leaf.oid
                        AND (k.number = leaf.attnum
                             -- an expression, such as lower(api_key)
                             OR k.number = 0
                                AND EXISTS (SELECT FROM pg_depend AS d
                                             WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                                               AND d.refclassid = 'pg_class'::regclass
                                               AND d.refobjid = leaf.oid AND d.refobjsubid = leaf.attnum)
                                AND pg_get_indexdef(i.indexrelid, k.place::integer, false)
                                    ~ format('(?<![\w$"])%s(?![\w$"])', regexp_replace(quote_ident(key_column), '\W', '\\\&', 'g')))), 0),
           m.amname IN ('btree', 'hash')
      FROM leaf
           JOIN pg_index AS i ON i.indrelid IN (leaf.oid, leaf.reltoastrelid)
           JOIN pg_class AS c ON c.oid = i.indexrelid
           JOIN pg_am AS m ON m.oid = c.relam
    $$;
COMMENT ON FUNCTION @extschema@.api_key_storage(regclass, name) IS
    'the relations whose files may hold keys of a table: partitions, TOAST tables, indexes, with the number of the key column in each';

CREATE FUNCTION @extschema@.api_key_index_remedy(index regclass) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    -- An index that belongs to a constraint, or to an index of all partitions, goes with that.
    SELECT coalesce((SELECT format('ALTER TABLE %s DROP CONSTRAINT %I;', n.conrelid::regclass, n.conname)
                       FROM pg_constraint AS n WHERE n.conindid = root AND n.contype IN ('p', 'u', 'x')),
                    format('DROP INDEX %s;', root))
           || format(' or REINDEX INDEX CONCURRENTLY %s;', index)
      FROM (SELECT coalesce(pg_partition_root(index), index)) AS of_index (root)
    $$;
COMMENT ON FUNCTION @extschema@.api_key_index_remedy(regclass) IS
    'the statements that rid an index of the keys in it';

CREATE FUNCTION @extschema@.scrub_api_keys(target regclass, every_page boolean DEFAULT false)
    RETURNS TABLE (object text, pages bigint, scrubbed bigint)
    LANGUAGE plpgsql STRICT
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    protection record;
    part record;
    walk record;
    plaintext bigint;
    holders text;
BEGIN
    SELECT * INTO protection FROM @extschema@.api_key_protection(target);
    IF NOT FOUND THEN
        IF pg_partition_root(target) <> target
           AND EXISTS (SELECT FROM @extschema@.api_key_protection(pg_partition_root(target))) THEN
            RAISE EXCEPTION 'table % is a partition', target
                USING ERRCODE = 'wrong_object_type',
                      HINT = format('All partitions are scrubbed at once: SELECT * FROM %s(%L);',
                                    '@extschema@.scrub_api_keys', pg_partition_root(target));
        END IF;
        RAISE EXCEPTION 'table % is not protected', target
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('SELECT %s(%L);', '@extschema@.protect_api_keys', target);
    END IF;
    EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', target);

    -- Dead rows that VACUUM has not removed are no dead bytes yet, and nothing here may touch them.
    FOR part IN
        SELECT * FROM @extschema@.api_key_storage(target, protection.key_column) AS s WHERE s.kind = 'table'
    LOOP
        IF NOT part.can_be_scrubbed THEN
            RAISE EXCEPTION 'table % is not stored as a heap', part.relation
                USING ERRCODE = 'feature_not_supported',
                      HINT = 'Ask the documentation of its access method how to erase dead rows.';
        END IF;
        SELECT * INTO walk FROM @extschema@.api_key_scrub_pages(part.relation, part.key_number, false, false);
        IF walk.residues > 0 THEN
            SELECT string_agg(h.holder || ': ' || h.remedy, ' ') INTO holders
              FROM @extschema@.api_key_xmin_holders() AS h;
            RAISE EXCEPTION '% dead rows of table % still hold keys', walk.residues, part.relation
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      DETAIL = coalesce('VACUUM may be kept from removing them by: ' || holders,
                                        'Nothing keeps VACUUM from removing them.'),
                      HINT = format('VACUUM (INDEX_CLEANUP ON) %s; then scrub again.', part.relation);
        END IF;
    END LOOP;
    EXECUTE format('SELECT count(%I) FROM %s', protection.key_column, target) INTO plaintext;
    IF plaintext > 0 THEN
        RAISE WARNING 'keys of table % that are still in plaintext: %', target, plaintext
            USING HINT = format('Scrub again after: CALL %s(%L);', '@extschema@.migrate_api_keys', target);
    END IF;

    FOR part IN
        SELECT * FROM @extschema@.api_key_storage(target, protection.key_column)
         UNION ALL
        -- Values that ANALYZE had sampled lie in the pages of its catalogues, which belong to a superuser.
        SELECT s.oid::regclass, 'statistics', a.attnum::integer, true
          FROM (SELECT unnest(ARRAY[c.oid, c.reltoastrelid]) FROM pg_class AS c
                 WHERE c.oid IN ('pg_statistic'::regclass, 'pg_statistic_ext_data'::regclass)) AS s (oid)
               JOIN pg_attribute AS a ON a.attrelid = s.oid AND a.attname IN ('stavalues1', 'stxdmcv', 'chunk_data')
         WHERE (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user)
    LOOP
        object := part.relation;
        pages := NULL;
        scrubbed := NULL;
        IF part.can_be_scrubbed THEN
            SELECT * INTO walk FROM @extschema@.api_key_scrub_pages(part.relation, part.key_number, true, every_page);
            pages := walk.pages;
            scrubbed := CASE WHEN every_page THEN walk.pages ELSE walk.dirty END;
            IF part.kind = 'index' AND walk.residues > 0 THEN
                RAISE WARNING '% entries of index % still hold keys', walk.residues, part.relation
                    USING HINT = 'Separators outlive the rows: ' || @extschema@.api_key_index_remedy(part.relation);
            ELSIF part.kind IN ('toast', 'statistics') AND walk.residues > 0 THEN
                RAISE WARNING '% dead rows of % may hold keys', walk.residues, part.relation
                    USING HINT = format('VACUUM (INDEX_CLEANUP ON) %s; then scrub again.', part.relation);
            END IF;
        ELSIF part.key_number > 0 THEN
            RAISE WARNING 'index % is of a kind that can''t be scrubbed', part.relation
                USING HINT = @extschema@.api_key_index_remedy(part.relation);
        END IF;
        RETURN NEXT;
    END LOOP;
    RAISE NOTICE 'old WAL, its archives and base backups may still hold keys of table %', target
        USING HINT = 'They are out of reach from here; see "What erasure means here" in the README.';
END
$$;
COMMENT ON FUNCTION @extschema@.scrub_api_keys(regclass, boolean) IS
    'zeroes the bytes of dead rows in the pages of a protected table, its TOAST table and its indexes, while reads and writes go on; every_page: on replicas also where this server has nothing to zero';
