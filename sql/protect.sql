-- pg_api_key: protecting a table

CREATE FUNCTION @extschema@.protect_api_keys(
    target regclass,
    key_column name DEFAULT 'api_key',
    hash_column name DEFAULT 'api_key_hash',
    algorithm text DEFAULT 'sha256',
    cost integer DEFAULT 10,
    tag_bits integer DEFAULT 16)
    RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    relation pg_class;
    present record;
    is_bcrypt constant boolean := algorithm = 'bcrypt';
    wanted_cost constant integer := CASE WHEN is_bcrypt THEN cost END;
    wanted_bits integer := CASE WHEN is_bcrypt THEN tag_bits END;
    -- a name holds 63 bytes; left() counts characters
    tag_column name := CASE WHEN is_bcrypt THEN
        (SELECT left(key_column, n) || '_tag' FROM generate_series(1, 59) AS n
          WHERE octet_length(left(key_column, n)) <= 59 ORDER BY n DESC LIMIT 1) END;
    arguments text;
    finding record;
    first_error record;
    more_errors text;
    changes text[] := '{}';
    new_columns text[] := '{}';
    tagged boolean;
    size bigint;
    large constant bigint := 64 * 1024 * 1024;
    plaintext bigint;
BEGIN
    IF num_nulls(target, key_column, hash_column, algorithm, cost, tag_bits) > 0 THEN
        RAISE EXCEPTION 'an argument of protect_api_keys is null'
            USING ERRCODE = 'null_value_not_allowed', HINT = 'Leave out what has a default.';
    END IF;
    -- An unknown algorithm, a cost or a number of bits out of range raise their errors here.
    PERFORM @extschema@.api_key_needs_rehash('', algorithm, cost);
    PERFORM @extschema@.api_key_tag('', tag_bits);

    SELECT * INTO relation FROM pg_class WHERE oid = target;
    IF relation.relkind IS DISTINCT FROM 'r' AND relation.relkind IS DISTINCT FROM 'p' THEN
        RAISE EXCEPTION '"%" is not a table', coalesce(relation.relname, target::text)
            USING ERRCODE = 'wrong_object_type',
                  HINT = 'Protect the table that holds the keys; what is written through a view on it is hashed too.';
    END IF;
    -- A partition without a trigger of its own gets its parent's.
    IF relation.relispartition THEN
        RAISE EXCEPTION '"%" is a partition', relation.relname
            USING ERRCODE = 'wrong_object_type',
                  HINT = format('Protect all partitions at once: SELECT %s(%L);',
                                '@extschema@.protect_api_keys', pg_partition_root(target));
    END IF;

    -- Keeps two calls apart, without hindering readers and writers.
    EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', target);

    SELECT * INTO present FROM @extschema@.api_key_protection(target);
    IF NOT is_bcrypt THEN
        -- Tags of bcrypt hashes that are stored already go on leading to their rows.
        tag_column := present.tag_column;
        wanted_bits := present.tag_bits;
    END IF;
    IF present.key_column <> key_column OR present.hash_column <> hash_column THEN
        RAISE EXCEPTION 'table % is protected already, with columns "%" and "%"',
                        target, present.key_column, present.hash_column
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('Several keys of one owner belong into a table of keys. To move to other columns, first: SELECT %s(%L);',
                                '@extschema@.unprotect_api_keys', target);
    END IF;
    IF present.in_force AND present.algorithm = algorithm
       AND present.cost IS NOT DISTINCT FROM wanted_cost
       AND present.tag_bits IS NOT DISTINCT FROM wanted_bits
       AND @extschema@.api_key_index(target, hash_column, relation.relkind = 'r') IS NOT NULL
       AND (tag_column IS NULL OR @extschema@.api_key_index(target, tag_column, false) IS NOT NULL)
    THEN
        RAISE NOTICE 'table % is protected already, nothing to change', target;
        RETURN;
    END IF;

    -- preflight: the first error is raised, with the others as its detail
    FOR finding IN
        SELECT * FROM @extschema@.api_key_preflight(target, key_column, hash_column, algorithm, tag_column)
    LOOP
        IF finding.severity = 'warning' THEN
            RAISE WARNING USING MESSAGE = finding.finding, HINT = finding.hint;
        ELSIF first_error IS NULL THEN
            first_error := finding;
        ELSE
            more_errors := concat_ws('; ', more_errors, finding.finding || ' (' || rtrim(finding.hint, ';.') || ')');
        END IF;
    END LOOP;
    IF first_error IS NOT NULL THEN
        IF more_errors IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = first_error.code, MESSAGE = first_error.finding,
                HINT = first_error.hint;
        END IF;
        RAISE EXCEPTION USING ERRCODE = first_error.code, MESSAGE = first_error.finding,
            HINT = first_error.hint, DETAIL = 'There is more: ' || more_errors || '.';
    END IF;
    IF present.tag_bits <> wanted_bits THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %I IS NOT NULL)', target, tag_column)
           INTO tagged;
        IF tagged THEN
            RAISE EXCEPTION 'the number of tag bits can''t change from % to %', present.tag_bits, tag_bits
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      DETAIL = 'Tags are made from keys, and the keys are gone.',
                      HINT = format('Keep tag_bits => %s.', present.tag_bits);
        END IF;
    END IF;

    SELECT coalesce(array_agg(format('ADD COLUMN %I %s', wanted.name, wanted.type) ORDER BY wanted.type DESC), '{}')
      INTO new_columns
      FROM (VALUES (hash_column, 'text COLLATE "C"'), (tag_column, 'integer')) AS wanted (name, type)
     WHERE wanted.name IS NOT NULL
       AND NOT EXISTS (SELECT FROM pg_attribute AS a
                        WHERE a.attrelid = target AND a.attname = wanted.name AND NOT a.attisdropped);
    SELECT coalesce(sum(pg_relation_size(relid)), 0) INTO size
      FROM (SELECT relid FROM pg_partition_tree(target) UNION SELECT target) AS part (relid);
    IF size > large AND (new_columns <> '{}'
            OR @extschema@.api_key_index(target, hash_column, relation.relkind = 'r') IS NULL
            OR (tag_column IS NOT NULL AND @extschema@.api_key_index(target, tag_column, false) IS NULL))
    THEN
        RAISE NOTICE 'building an index on table % (%), which waits for and blocks its users',
                     target, pg_size_pretty(size)
            USING HINT = 'To protect it without blocking, cancel, run the following one by one, and call again: '
                || CASE WHEN new_columns = '{}' THEN ''
                        ELSE format('ALTER TABLE %s %s; ', target, array_to_string(new_columns, ', ')) END
                || CASE WHEN relation.relkind = 'p' THEN
                            format('CREATE INDEX ON ONLY %s (%I); and, for each partition, CREATE INDEX CONCURRENTLY and ALTER INDEX ... ATTACH PARTITION; ', target, hash_column)
                        ELSE format('CREATE UNIQUE INDEX CONCURRENTLY ON %s (%I); ', target, hash_column) END
                || CASE WHEN tag_column IS NULL THEN ''
                        WHEN relation.relkind = 'p' THEN format('the same for (%I);', tag_column)
                        ELSE format('CREATE INDEX CONCURRENTLY ON %s (%I);', target, tag_column) END;
    END IF;

    -- From here on the strongest lock that is needed, asked for once.
    EXECUTE format('LOCK TABLE %s IN %s MODE', target,
                   CASE WHEN new_columns <> '{}' THEN 'ACCESS EXCLUSIVE' ELSE 'SHARE ROW EXCLUSIVE' END);
    IF new_columns <> '{}' THEN
        EXECUTE format('ALTER TABLE %s %s', target, array_to_string(new_columns, ', '));
    END IF;
    IF @extschema@.api_key_index(target, hash_column, relation.relkind = 'r') IS NULL THEN
        EXECUTE format('CREATE %s INDEX ON %s (%I)',
                       CASE WHEN relation.relkind = 'r' THEN 'UNIQUE' ELSE '' END, target, hash_column);
        IF relation.relkind = 'p' THEN
            RAISE NOTICE 'the index on column "%" of partitioned table % is not unique', hash_column, target
                USING HINT = 'A unique one would have to hold the partition key. Random keys do not repeat.';
        END IF;
    END IF;
    IF tag_column IS NOT NULL AND @extschema@.api_key_index(target, tag_column, false) IS NULL THEN
        EXECUTE format('CREATE INDEX ON %s (%I)', target, tag_column);
    END IF;

    arguments := concat_ws(', ', quote_literal(key_column), quote_literal(hash_column),
        quote_literal(algorithm), quote_literal(cost::text), quote_literal(coalesce(tag_column, '')),
        quote_literal(coalesce(wanted_bits, tag_bits)::text));
    EXECUTE format($sql$
        CREATE OR REPLACE TRIGGER "!pg_api_key_first" BEFORE INSERT OR UPDATE ON %1$s FOR EACH ROW
            WHEN (NEW.%2$I IS NOT NULL) EXECUTE FUNCTION @extschema@.hash_api_key_trigger(%3$s);
        CREATE OR REPLACE TRIGGER "~pg_api_key_last" BEFORE INSERT OR UPDATE ON %1$s FOR EACH ROW
            WHEN (NEW.%2$I IS NOT NULL) EXECUTE FUNCTION @extschema@.hash_api_key_trigger(%3$s);
        CREATE OR REPLACE TRIGGER "!pg_api_key_upsert" BEFORE UPDATE OF %2$I ON %1$s FOR EACH ROW
            WHEN (NEW.%2$I IS NULL) EXECUTE FUNCTION @extschema@.hash_api_key_trigger(%3$s);
        ALTER TABLE %1$s ENABLE ALWAYS TRIGGER "!pg_api_key_first";
        ALTER TABLE %1$s ENABLE ALWAYS TRIGGER "~pg_api_key_last";
        ALTER TABLE %1$s ENABLE ALWAYS TRIGGER "!pg_api_key_upsert";
    $sql$, target, key_column, arguments);

    IF present.algorithm IS NULL THEN
        RAISE NOTICE 'keys written to %.% are hashed with % into "%" from now on',
                     target, quote_ident(key_column), algorithm, hash_column;
    ELSE
        changes := changes
            || CASE WHEN present.algorithm <> algorithm
                    THEN format('algorithm %s, was %s', algorithm, present.algorithm) END
            || CASE WHEN present.cost <> wanted_cost
                    THEN format('cost %s, was %s', cost, present.cost) END
            || CASE WHEN present.tag_bits <> wanted_bits
                    THEN format('tag bits %s, were %s', tag_bits, present.tag_bits) END
            || CASE WHEN NOT present.in_force THEN 'triggers in force again' END;
        RAISE NOTICE 'protection of table % changed: %', target,
                     coalesce(nullif(array_to_string(changes, ', '), ''), 'missing indexes made')
            USING HINT = 'Hashes that are stored already stay as they are, and go on verifying'
                || CASE WHEN present.algorithm <> algorithm
                        THEN '; look keys up with find_by_api_key, which knows both kinds.' ELSE '.' END;
    END IF;
    EXECUTE format('SELECT count(%I) FROM %s', key_column, target) INTO plaintext;
    IF plaintext > 0 THEN
        RAISE NOTICE 'keys of table % that are still in plaintext: %', target, plaintext
            USING HINT = format('CALL %s(%L);', '@extschema@.migrate_api_keys', target);
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.protect_api_keys(regclass, name, name, text, integer, integer) IS
    'adds hash column, index and triggers, so that no write leaves an API key in plaintext; may be repeated';

CREATE FUNCTION @extschema@.api_key_index(target regclass, column_name name, must_be_unique boolean)
    RETURNS regclass
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT i.indexrelid::regclass
      FROM pg_index AS i
           JOIN pg_class AS c ON c.oid = i.indexrelid
           JOIN pg_am AS m ON m.oid = c.relam AND m.amname = 'btree'
           JOIN pg_attribute AS a
             ON a.attrelid = i.indrelid AND a.attname = column_name AND a.attnum = i.indkey[0]
           JOIN pg_opclass AS o ON o.oid = i.indclass[0] AND o.opcdefault
     WHERE i.indrelid = target AND i.indisvalid AND i.indisready AND NOT i.indnullsnotdistinct
       AND i.indcollation[0] = a.attcollation
       AND (i.indpred IS NULL
            OR pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', column_name))
       AND (NOT must_be_unique OR i.indisunique AND i.indnkeyatts = 1)
     ORDER BY i.indisunique DESC, i.indexrelid
     LIMIT 1
    $$;
COMMENT ON FUNCTION @extschema@.api_key_index(regclass, name, boolean) IS
    'a valid btree index on the column that serves equality look-ups, unique if asked for';

CREATE FUNCTION @extschema@.unprotect_api_keys(target regclass) RETURNS void
    LANGUAGE plpgsql STRICT
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    one record;
    found_any boolean := false;
BEGIN
    FOR one IN
        SELECT t.tgname FROM pg_trigger AS t
         WHERE t.tgrelid = target AND t.tgparentid = 0
           AND t.tgfoid = '@extschema@.hash_api_key_trigger()'::regprocedure
         ORDER BY t.tgname
    LOOP
        found_any := true;
        EXECUTE format('DROP TRIGGER %I ON %s', one.tgname, target);
    END LOOP;
    IF found_any THEN
        RAISE NOTICE 'keys written to table % stay in plaintext from now on', target
            USING HINT = 'Hashes and their index are untouched.';
    ELSIF pg_partition_root(target) <> target
          AND EXISTS (SELECT FROM @extschema@.api_key_protection(pg_partition_root(target))) THEN
        RAISE EXCEPTION 'table % is a partition', target
            USING ERRCODE = 'wrong_object_type',
                  HINT = format('Its triggers are those of all partitions: SELECT %s(%L);',
                                '@extschema@.unprotect_api_keys', pg_partition_root(target));
    ELSE
        RAISE NOTICE 'table % is not protected, nothing to change', target;
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.unprotect_api_keys(regclass) IS
    'takes the triggers of protect_api_keys away and touches no data';
