-- pg_api_key: where plaintext may still be

-- what concerns the whole server or database

CREATE FUNCTION @extschema@.api_key_audit_settings()
    RETURNS TABLE (severity text, finding text, object text, detail text, remedy text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    statements_schema name;
    suspects bigint;
BEGIN
    RETURN QUERY
    WITH risky (name, finding, harmless, detail) AS (VALUES
        ('log_statement', 'statement log', ARRAY['none', 'ddl'], 'literals in statements are logged'),
        ('log_min_duration_statement', 'statement log', ARRAY['-1'], 'literals in statements are logged'),
        ('log_min_duration_sample', 'statement log', ARRAY['-1'], 'literals in statements are logged'),
        ('log_transaction_sample_rate', 'statement log', ARRAY['0'], 'literals in statements are logged'),
        ('log_parameter_max_length', 'parameter log', ARRAY['0'], 'bound parameters are logged with their statements'),
        ('log_parameter_max_length_on_error', 'parameter log', ARRAY['0'], 'bound parameters are logged with errors'),
        ('debug_print_parse', 'statement log', ARRAY['off', 'false', 'no', '0'], 'literals are logged, as numbers of bytes'),
        ('debug_print_rewritten', 'statement log', ARRAY['off', 'false', 'no', '0'], 'literals are logged, as numbers of bytes'),
        ('debug_print_plan', 'statement log', ARRAY['off', 'false', 'no', '0'], 'literals and parameters are logged, as numbers of bytes'),
        ('auto_explain.log_min_duration', 'auto_explain', ARRAY['-1'], 'plans are logged with the literals and parameters of their statements'),
        ('pgaudit.log', 'pgaudit', ARRAY['none', ''], 'literals in statements are logged'),
        ('pgaudit.log_parameter', 'pgaudit', ARRAY['off', 'false', 'no', '0'], 'bound parameters are logged')),
    setting (name, value, object, remedy) AS (
        SELECT r.name, current_setting(r.name, true), r.name,
               format('ALTER SYSTEM SET %s = %L;', r.name, r.harmless[1])
          FROM risky AS r
         UNION ALL
        -- what others get in place of that
        SELECT split_part(c.pair, '=', 1), substr(c.pair, strpos(c.pair, '=') + 1),
               format('%s of %s', split_part(c.pair, '=', 1), w.whose),
               format('ALTER %s RESET %s;', w.whom, split_part(c.pair, '=', 1))
          FROM pg_db_role_setting AS d
               CROSS JOIN LATERAL unnest(d.setconfig) AS c (pair)
               CROSS JOIN LATERAL (
                   SELECT quote_ident(pg_get_userbyid(nullif(d.setrole, 0))),
                          (SELECT quote_ident(b.datname) FROM pg_database AS b WHERE b.oid = d.setdatabase)) AS n (role_name, database_name)
               CROSS JOIN LATERAL (
                   SELECT coalesce('role ' || n.role_name || coalesce(' in database ' || n.database_name, ''),
                                   'database ' || n.database_name, 'all roles'),
                          coalesce('ROLE ' || n.role_name || coalesce(' IN DATABASE ' || n.database_name, ''),
                                   'DATABASE ' || n.database_name, 'ROLE ALL')) AS w (whose, whom)
         WHERE d.setdatabase IN (0, (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database()))),
    is_on AS (
        SELECT r.name, r.finding, r.detail, s.value, s.object, s.remedy
          FROM risky AS r JOIN setting AS s ON s.name = r.name
         WHERE lower(s.value) <> ALL (r.harmless))
    SELECT 'risk', o.finding, o.object, format('%s = %s: %s', o.name, o.value, o.detail), o.remedy
      FROM is_on AS o
     WHERE o.name <> 'log_parameter_max_length'
        OR EXISTS (SELECT FROM is_on AS other WHERE other.finding = 'statement log' AND other.name LIKE 'log%')
     ORDER BY o.object;
    IF current_setting('log_min_error_statement') NOT IN ('panic', 'fatal', 'log') THEN
        RETURN QUERY SELECT 'note', 'statement log', 'log_min_error_statement',
            'a statement that fails is logged with its literals; bound parameters are not',
            'bind keys as parameters';
    END IF;
    SELECT n.nspname INTO statements_schema
      FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
     WHERE e.extname = 'pg_stat_statements';
    IF statements_schema IS NOT NULL THEN
        BEGIN
            -- Constants of utility statements are kept: a quoted word as long as a key, with a digit.
            EXECUTE format($sql$SELECT count(*) FROM %I.pg_stat_statements AS s
                             WHERE s.query ~ '''(?=[^'']*[0-9])[A-Za-z0-9_.+/=-]{20,}'''$sql$,
                           statements_schema) INTO suspects;
            IF suspects > 0 THEN
                RETURN QUERY SELECT 'risk', 'pg_stat_statements', format('%I.pg_stat_statements', statements_schema),
                    format('statements whose text holds a word that may be a key: %s', suspects),
                    format('SELECT %I.pg_stat_statements_reset();', statements_schema);
            END IF;
        EXCEPTION WHEN object_not_in_prerequisite_state OR insufficient_privilege THEN
            RETURN QUERY SELECT 'note', 'pg_stat_statements', format('%I.pg_stat_statements', statements_schema),
                'can''t be read here', NULL::text;
        END;
    END IF;
    RETURN QUERY SELECT 'note', 'WAL and backups', 'server',
        'WAL of before the migration, its archives, and base backups hold keys and are out of reach from SQL',
        'SELECT pg_switch_wal(); CHECKPOINT; then let archives and backups expire';
END
$$;
COMMENT ON FUNCTION @extschema@.api_key_audit_settings() IS
    'settings of the server by which keys reach logs and statistics; part of audit_api_keys';

-- what concerns one protected table

CREATE FUNCTION @extschema@.api_key_audit_table(p record)
    RETURNS TABLE (severity text, finding text, object text, detail text, remedy text)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    target constant regclass := p.protected_table;
    class constant pg_class := (SELECT c FROM pg_class AS c WHERE c.oid = target);
    tree constant oid[] := ARRAY(SELECT relid::oid FROM pg_partition_tree(target) UNION SELECT target::oid);
    key_number constant smallint := (SELECT a.attnum FROM pg_attribute AS a
        WHERE a.attrelid = target AND a.attname = p.key_column AND NOT a.attisdropped);
    hash_number constant smallint := (SELECT a.attnum FROM pg_attribute AS a
        WHERE a.attrelid = target AND a.attname = p.hash_column AND NOT a.attisdropped);
    item record;
    counted bigint;
    shown constant integer := 100;
BEGIN
    IF pg_is_other_temp_schema(class.relnamespace) THEN
        RETURN QUERY SELECT 'note', 'temporary table', target::text, 'only its own session may look at it', NULL::text;
        RETURN;
    END IF;
    IF key_number IS NULL OR hash_number IS NULL THEN
        RETURN QUERY SELECT 'leak', 'triggers', target::text,
            format('the triggers name columns %I and %I, and one of them is missing', p.key_column, p.hash_column),
            format('SELECT %s(%L); and protect the columns that are there', '@extschema@.unprotect_api_keys', target);
        RETURN;
    END IF;
    IF NOT p.in_force THEN
        RETURN QUERY SELECT 'leak', 'triggers', target::text, 'a trigger is missing, disabled or not ENABLE ALWAYS',
            format('SELECT %s(%L, %L, %L, %L%s);', '@extschema@.protect_api_keys', target, p.key_column, p.hash_column, p.algorithm,
                   CASE WHEN p.cost IS NULL THEN '' ELSE format(', %s, %s', p.cost, p.tag_bits) END);
    -- A renamed column takes the triggers' conditions along.
    ELSIF EXISTS (SELECT FROM pg_trigger AS t
                   WHERE t.tgrelid = target AND t.tgfoid = '@extschema@.hash_api_key_trigger()'::regprocedure
                     AND NOT EXISTS (SELECT FROM pg_depend AS d
                                      WHERE d.classid = 'pg_trigger'::regclass AND d.objid = t.oid
                                        AND d.refobjid = target AND d.refobjsubid = key_number)) THEN
        RETURN QUERY SELECT 'leak', 'triggers', target::text, 'a trigger fires for another column',
            format('SELECT %s(%L); and protect it again', '@extschema@.unprotect_api_keys', target);
    END IF;

    -- plaintext that is simply there
    IF pg_is_in_recovery() AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = ANY (tree) AND c.relpersistence = 'u') THEN
        RETURN QUERY SELECT 'note', 'plaintext', target::text, 'an unlogged table is empty on a standby', NULL::text;
        RETURN;
    END IF;
    IF has_schema_privilege(class.relnamespace, 'USAGE')
       AND has_column_privilege(target, key_number, 'SELECT') AND has_column_privilege(target, hash_number, 'SELECT')
    THEN
        IF row_security_active(target) THEN
            RETURN QUERY SELECT 'note', 'row security', target::text, 'rows that you may not see are not counted', NULL::text;
        END IF;
        EXECUTE format('SELECT count(%I) FROM %s', p.key_column, target) INTO counted;
        IF counted > 0 THEN
            RETURN QUERY SELECT 'leak', 'plaintext', format('%s.%I', target, p.key_column),
                format('keys in plaintext: %s', counted),
                format('CALL %s(%L);', '@extschema@.migrate_api_keys', target);
            RETURN QUERY
            SELECT 'leak', 'quarantine', format('%s %s', q.part, q.row_id), 'can''t be hashed: ' || q.reason,
                   'issue a new key to its owner'
              FROM @extschema@.api_key_quarantine(target) AS q LIMIT shown;
        END IF;
        EXECUTE format('SELECT count(*) FROM %s WHERE NOT @extschema@.is_api_key_hash(%I::text)', target, p.hash_column)
           INTO counted;
        IF counted > 0 THEN
            RETURN QUERY SELECT 'leak', 'hash column', format('%s.%I', target, p.hash_column),
                format('values that are not hashes, perhaps keys: %s', counted),
                format('UPDATE %1$s SET %2$I = %3$I WHERE %2$I IS NULL AND NOT @extschema@.is_api_key_hash(%3$I);',
                       target, p.key_column, p.hash_column);
        END IF;
    ELSE
        RETURN QUERY SELECT 'note', 'plaintext', target::text, 'you may not read the columns, so nothing is counted', NULL::text;
    END IF;

    -- bytes of rows that are gone
    IF pg_has_role(class.relowner, 'USAGE') THEN
        FOR item IN
            SELECT s.*, w.* FROM @extschema@.api_key_storage(target, p.key_column) AS s
                   CROSS JOIN LATERAL @extschema@.api_key_scrub_pages(s.relation, s.key_number, false, false) AS w
             WHERE s.can_be_scrubbed
        LOOP
            IF item.kind = 'table' AND item.residues > 0 THEN
                RETURN QUERY SELECT 'leak', 'dead rows', item.relation::text,
                    format('dead rows that hold keys: %s', item.residues),
                    format('VACUUM (INDEX_CLEANUP ON) %s;', item.relation);
                RETURN QUERY SELECT 'risk', 'open snapshot', item.relation::text, h.holder || ' may keep dead rows', h.remedy
                  FROM @extschema@.api_key_xmin_holders() AS h;
            ELSIF item.kind = 'index' AND item.residues > 0 THEN
                RETURN QUERY SELECT 'leak', 'index', item.relation::text,
                    format('entries that hold keys: %s', item.residues),
                    @extschema@.api_key_index_remedy(item.relation);
            ELSIF item.kind = 'toast' AND item.residues > 0 THEN
                RETURN QUERY SELECT 'risk', 'dead rows', item.relation::text,
                    format('dead chunks of long values, perhaps of keys: %s', item.residues),
                    format('VACUUM (INDEX_CLEANUP ON) %s;', target);
            END IF;
            -- Whose bytes they are can't be told, and any later UPDATE leaves some.
            IF item.dirty > 0 THEN
                RETURN QUERY SELECT 'risk', 'dead bytes', item.relation::text,
                    format('pages with bytes of dead rows: %s of %s', item.dirty, item.pages),
                    format('SELECT * FROM %s(%L);', '@extschema@.scrub_api_keys', target);
            END IF;
        END LOOP;
    ELSE
        RETURN QUERY SELECT 'note', 'dead rows', target::text, 'only the owner of the table may look at its pages', NULL::text;
    END IF;
    RETURN QUERY
    SELECT CASE WHEN s.can_be_scrubbed THEN 'note' ELSE 'risk' END, 'index', s.relation::text,
           'an index on the key column serves nobody once all keys are hashed', @extschema@.api_key_index_remedy(s.relation)
      FROM @extschema@.api_key_storage(target, p.key_column) AS s WHERE s.kind = 'index' AND s.key_number > 0;

    -- samples that ANALYZE has taken, of the column or of an index's expression
    RETURN QUERY
    SELECT 'leak', 'statistics', format('%s.%I', c.oid::regclass, s.attname),
           'ANALYZE has kept values, for all who may SELECT the column',
           CASE WHEN c.relkind IN ('r', 'p') THEN
               -- With a target of 0 ANALYZE leaves what it kept before.
               format('ALTER TABLE %1$s ALTER COLUMN %2$I SET STATISTICS -1; ANALYZE %1$s; ALTER TABLE %1$s ALTER COLUMN %2$I SET STATISTICS 0;',
                      c.oid::regclass, s.attname)
           ELSE format('ANALYZE %s;', target) END
      FROM pg_stats AS s
           JOIN pg_namespace AS n ON n.nspname = s.schemaname
           JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = s.tablename
     WHERE (c.oid = ANY (tree) AND s.attname = p.key_column
            OR c.oid IN (SELECT x.relation FROM @extschema@.api_key_storage(target, p.key_column) AS x
                          WHERE x.kind = 'index' AND x.key_number > 0))
       AND (s.most_common_vals IS NOT NULL OR s.histogram_bounds IS NOT NULL);
    RETURN QUERY
    SELECT 'note', 'statistics', format('%s.%I', target, p.key_column), 'ANALYZE samples the column',
           format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0;', target, p.key_column)
      FROM pg_attribute AS a
     WHERE a.attrelid = target AND a.attnum = key_number AND coalesce(a.attstattarget, -1) <> 0;
    RETURN QUERY
    SELECT 'leak', 'extended statistics', format('%I.%I', n.nspname, x.stxname),
           'a statistics object on the key column may hold values of it', format('DROP STATISTICS %I.%I;', n.nspname, x.stxname)
      FROM pg_statistic_ext AS x JOIN pg_namespace AS n ON n.oid = x.stxnamespace
     WHERE x.stxrelid = ANY (tree)
       AND EXISTS (SELECT FROM pg_depend AS d
                          JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                    WHERE d.classid = 'pg_statistic_ext'::regclass AND d.objid = x.oid
                      AND d.refclassid = 'pg_class'::regclass AND d.refobjid = x.stxrelid AND a.attname = p.key_column);

    -- ways around the triggers, and others who see what they see
    RETURN QUERY
    SELECT 'leak', 'inheritance', i.inhrelid::regclass::text, 'inherits the column, and is not protected',
           format('SELECT %s(%L);', '@extschema@.protect_api_keys', i.inhrelid::regclass)
      FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
     WHERE i.inhparent = target AND NOT c.relispartition
       AND NOT EXISTS (SELECT FROM @extschema@.api_key_protection(i.inhrelid));
    RETURN QUERY
    SELECT 'leak', 'default', format('%s.%I', d.adrelid::regclass, p.key_column), 'a default makes keys that nobody sees',
           format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT;', d.adrelid::regclass, p.key_column)
      FROM pg_attrdef AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
     WHERE d.adrelid = ANY (tree) AND a.attname = p.key_column;
    RETURN QUERY
    SELECT CASE WHEN outside THEN 'risk' ELSE 'note' END, 'trigger', format('%I on %s', t.tgname, t.tgrelid::regclass),
           CASE WHEN outside THEN 'runs outside of the protecting triggers, where keys can be seen or put back'
                WHEN t.tgtype & 2 = 2 THEN 'runs between the protecting triggers; it sees no new key'
                ELSE 'sees the old key of a row whose plaintext goes away' END,
           CASE WHEN outside THEN format('ALTER TRIGGER %I ON %s RENAME TO ...;', t.tgname, t.tgrelid::regclass) END
      FROM pg_trigger AS t
           CROSS JOIN LATERAL (SELECT t.tgtype & 2 = 2 AND (t.tgname < '!pg_api_key_first' COLLATE "C"
                                                            OR t.tgname > '~pg_api_key_last' COLLATE "C")) AS o (outside)
     WHERE t.tgrelid = ANY (tree) AND t.tgparentid = 0 AND NOT t.tgisinternal AND t.tgtype & 20 <> 0
       AND t.tgfoid <> '@extschema@.hash_api_key_trigger()'::regprocedure;
    RETURN QUERY
    SELECT 'risk', 'rule', format('%I on %s', r.rulename, r.ev_class::regclass), 'a rule may write keys elsewhere',
           format('DROP RULE %I ON %s;', r.rulename, r.ev_class::regclass)
      FROM pg_rewrite AS r WHERE r.ev_class = ANY (tree) AND r.ev_type <> '1';
    RETURN QUERY
    SELECT DISTINCT 'note', 'publication', quote_ident(u.pubname), 'sends rows of the table to subscribers, which must be protected too', NULL::text
      FROM pg_publication AS u CROSS JOIN LATERAL pg_get_publication_tables(u.pubname) AS t
     WHERE t.relid = ANY (tree);
    RETURN QUERY
    SELECT 'risk', 'replica identity', c.oid::regclass::text, 'old rows, with keys that were in plaintext, go into the replication stream',
           format('ALTER TABLE %s REPLICA IDENTITY DEFAULT;', c.oid::regclass)
      FROM pg_class AS c
     WHERE c.oid = ANY (tree)
       AND (c.relreplident = 'f'
            OR EXISTS (SELECT FROM pg_index AS i
                              JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                        WHERE i.indrelid = c.oid AND i.indisreplident AND a.attname = p.key_column));

    -- who may read hashes, or put their own in place
    FOR item IN
        SELECT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END AS role_name,
               bool_or(g.privilege_type = 'SELECT') AS reads,
               bool_or(g.privilege_type IN ('INSERT', 'UPDATE')) AS writes
          FROM (SELECT (aclexplode(c.relacl)).*, c.relowner FROM pg_class AS c WHERE c.oid = target
                 UNION ALL
                SELECT (aclexplode(a.attacl)).*, c.relowner
                  FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
                 WHERE a.attrelid = target AND a.attname = p.hash_column) AS g
         WHERE g.grantee <> g.relowner
         GROUP BY g.grantee
        HAVING bool_or(g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE'))
    LOOP
        RETURN QUERY SELECT CASE WHEN item.role_name = 'PUBLIC' OR item.writes THEN 'risk' ELSE 'note' END,
            'privileges', format('%s.%I', target, p.hash_column),
            format('role %s may %s', item.role_name,
                   concat_ws(' and ', CASE WHEN item.reads THEN 'read hashes' END,
                             CASE WHEN item.writes THEN 'write hashes, and so make a key valid' END)),
            format('REVOKE ALL (%I) ON %s FROM %s; and grant the other columns one by one', p.hash_column, target, item.role_name);
    END LOOP;
END
$$;
COMMENT ON FUNCTION @extschema@.api_key_audit_table(record) IS
    'where plaintext of one protected table may still be; part of audit_api_keys';

-- all of it

CREATE FUNCTION @extschema@.audit_api_keys(target regclass DEFAULT NULL)
    RETURNS TABLE (severity text, finding text, object text, detail text, remedy text)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    protection record;
BEGIN
    IF target IS NOT NULL AND NOT EXISTS (SELECT FROM @extschema@.api_key_protection(target)) THEN
        RETURN QUERY SELECT 'leak', 'protection', target::text, 'the table is not protected',
            format('SELECT %s(%L);', '@extschema@.protect_api_keys', target);
    END IF;
    RETURN QUERY
    SELECT a.* FROM @extschema@.api_key_protection(target) AS p
           CROSS JOIN LATERAL @extschema@.api_key_audit_table(p) AS a;
    -- A column of the same name elsewhere: a copy, a detached partition, a staging table.
    RETURN QUERY
    SELECT DISTINCT 'risk', 'look-alike', format('%s.%I', c.oid::regclass, a.attname),
           CASE c.relkind WHEN 'm' THEN 'a materialized view keeps what it has read of a column of that name'
                ELSE 'a column of the same name in a table that is not protected' END,
           CASE c.relkind WHEN 'm' THEN format('REFRESH MATERIALIZED VIEW %s;', c.oid::regclass)
                WHEN 'f' THEN 'protect it on the server where it is'
                ELSE format('SELECT %s(%L, %L);', '@extschema@.protect_api_keys', c.oid::regclass, a.attname) END
      FROM @extschema@.api_key_protection(target) AS p
           JOIN pg_attribute AS a ON a.attname = p.key_column AND NOT a.attisdropped
           JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'm', 'f') AND NOT c.relispartition
           JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname NOT IN ('pg_catalog', 'information_schema')
     WHERE NOT EXISTS (SELECT FROM @extschema@.api_key_protection(c.oid))
       AND NOT pg_is_other_temp_schema(n.oid)
       AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = c.oid AND i.inhparent = p.protected_table);
    RETURN QUERY SELECT * FROM @extschema@.api_key_audit_settings();
END
$$;
COMMENT ON FUNCTION @extschema@.audit_api_keys(regclass) IS
    'every place that may still hold API keys in plaintext, by severity (leak, risk, note), with the statement that closes it';
