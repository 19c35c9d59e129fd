-- pg_api_key: erasing what dead rows have left in pages

CREATE FUNCTION @extschema@.api_key_scrub_pages(relation oid, key_number integer, scrub boolean,
    OUT pages bigint, OUT dirty bigint, OUT residues bigint) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'api_key_scrub_pages_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 100000 ROWS 1;
COMMENT ON FUNCTION @extschema@.api_key_scrub_pages(oid, integer, boolean) IS
    'counts (and scrubs) the pages of a relation that hold bytes of dead rows, and the dead rows or index entries that hold a value of the column with that number; for its owner';

CREATE FUNCTION @extschema@.api_key_xmin_holders()
    RETURNS TABLE (holder text, remedy text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT format('session %s of user "%s"%s, transaction open since %s', pid, usename,
                  CASE WHEN application_name = '' THEN '' ELSE format(' (%s)', application_name) END,
                  date_trunc('second', xact_start)),
           format('SELECT pg_terminate_backend(%s);', pid)
      FROM pg_stat_activity
     WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid()
       AND datname = current_database() AND backend_type = 'client backend'
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
    SELECT reltoastrelid::regclass, 'toast', 0, true FROM leaf WHERE reltoastrelid <> 0
     UNION ALL
    SELECT i.indexrelid::regclass, 'index',
           coalesce((SELECT place::integer FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (number, place)
                      WHERE k.number = leaf.attnum AND i.indrelid = leaf.oid LIMIT 1), 0),
           m.amname IN ('btree', 'hash')
      FROM leaf
           JOIN pg_index AS i ON i.indrelid IN (leaf.oid, leaf.reltoastrelid)
           JOIN pg_class AS c ON c.oid = i.indexrelid
           JOIN pg_am AS m ON m.oid = c.relam
    $$;
COMMENT ON FUNCTION @extschema@.api_key_storage(regclass, name) IS
    'the relations whose files may hold keys of a table: partitions, TOAST tables, indexes, with the number of the key column in each';

CREATE FUNCTION @extschema@.scrub_api_keys(target regclass)
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
        SELECT * INTO walk FROM @extschema@.api_key_scrub_pages(part.relation, part.key_number, false);
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
        -- Values that ANALYZE had sampled lie in the pages of its catalogue, which belong to a superuser.
        SELECT c.oid::regclass, c.kind, 0, true
          FROM (SELECT oid, 'statistics' FROM pg_class WHERE oid IN ('pg_statistic'::regclass, 'pg_statistic_ext_data'::regclass)
                 UNION ALL
                SELECT reltoastrelid, 'statistics' FROM pg_class WHERE oid IN ('pg_statistic'::regclass, 'pg_statistic_ext_data'::regclass)) AS c (oid, kind)
         WHERE (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user)
    LOOP
        object := part.relation;
        pages := NULL;
        scrubbed := NULL;
        IF part.can_be_scrubbed THEN
            SELECT * INTO walk FROM @extschema@.api_key_scrub_pages(part.relation, part.key_number, true);
            pages := walk.pages;
            scrubbed := walk.dirty;
            IF part.kind = 'index' AND walk.residues > 0 THEN
                RAISE WARNING '% entries of index % still hold keys', walk.residues, part.relation
                    USING HINT = format('Separators outlive the rows: DROP INDEX %1$s; or REINDEX INDEX CONCURRENTLY %1$s;', part.relation);
            END IF;
        ELSIF part.key_number > 0 THEN
            RAISE WARNING 'index % is of a kind that can''t be scrubbed', part.relation
                USING HINT = format('DROP INDEX %1$s; or REINDEX INDEX CONCURRENTLY %1$s;', part.relation);
        END IF;
        RETURN NEXT;
    END LOOP;
    RAISE NOTICE 'old WAL, its archives and base backups may still hold keys of table %', target
        USING HINT = 'They are out of reach from here; see "What erasure means" in the README.';
END
$$;
COMMENT ON FUNCTION @extschema@.scrub_api_keys(regclass) IS
    'zeroes the bytes of dead rows in the pages of a protected table, its TOAST table and its indexes, while reads and writes go on';
