-- pg_api_key: bringing a live table from plaintext to hashes

-- The cost by which verify_api_key is known makes the planner reach for JIT, which takes longer
-- than what it is meant to speed up: hence jit = off.

-- what is to be done

CREATE FUNCTION @extschema@.api_key_pending(
    key_column name, hash_column name, algorithm text)
    RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    -- A hash of another key beside the plaintext may be in use: such a row is left alone.
    SELECT format('t.%1$I IS NOT NULL AND @extschema@.api_key_fault(t.%1$I::pg_catalog.text, %3$L) IS NULL '
                  'AND (t.%2$I IS NULL OR NOT @extschema@.is_api_key_hash(t.%2$I::pg_catalog.text) '
                  'OR @extschema@.verify_api_key(t.%1$I::pg_catalog.text, t.%2$I::pg_catalog.text))',
                  key_column, hash_column, algorithm)
    $$;
COMMENT ON FUNCTION @extschema@.api_key_pending(name, name, text) IS
    'the condition by which a row t holds a plaintext key that can be hashed';

CREATE FUNCTION @extschema@.api_key_quarantine(
    target regclass,
    key_column name DEFAULT 'api_key',
    hash_column name DEFAULT 'api_key_hash',
    algorithm text DEFAULT 'sha256')
    RETURNS TABLE (part regclass, row_id tid, reason text)
    LANGUAGE plpgsql STABLE STRICT
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
DECLARE
    protection record;
    stored text := 'NULL::text';
    each_hash_once boolean;
BEGIN
    SELECT * INTO protection FROM @extschema@.api_key_protection(target);
    IF FOUND THEN
        key_column := protection.key_column;
        hash_column := protection.hash_column;
        algorithm := protection.algorithm;
    END IF;
    IF EXISTS (SELECT FROM pg_attribute AS a
                WHERE a.attrelid = target AND a.attname = hash_column AND NOT a.attisdropped) THEN
        stored := format('one.%I', hash_column);
    END IF;
    -- Salted hashes do not repeat, and a partitioned table takes equal ones: protect_api_keys
    -- makes its index unique for a plain table only.
    each_hash_once := algorithm = 'sha256'
        AND (protection.key_column IS NULL AND (SELECT relkind = 'r' FROM pg_class WHERE oid = target)
             OR @extschema@.api_key_index(target, hash_column, true) IS NOT NULL);
    -- Only digests are sorted and compared: a sort may write to a temporary file. Of rows with
    -- equal keys the one that has the hash already keeps it, else the first gets it.
    RETURN QUERY EXECUTE format(
        'WITH plain AS MATERIALIZED (
             SELECT part, ctid AS row_id, reason, digest, has_it,
                    row_number() OVER (PARTITION BY digest ORDER BY has_it DESC, part, ctid) AS nth
               FROM (SELECT one.tableoid::regclass AS part, one.ctid, r.reason,
                            h.digest COLLATE "default" AS digest,
                            r.reason IS NULL AND @extschema@.is_api_key_hash(%3$s::text) IS TRUE AS has_it
                       FROM %4$s AS one
                            CROSS JOIN LATERAL (SELECT coalesce(
                                @extschema@.api_key_fault(one.%1$I::text, %2$L),
                                CASE WHEN @extschema@.is_api_key_hash(%3$s::text)
                                          AND NOT @extschema@.verify_api_key(one.%1$I::text, %3$s::text)
                                     THEN ''another key''''s hash beside it'' END)) AS r (reason)
                            CROSS JOIN LATERAL (SELECT CASE WHEN r.reason IS NULL AND %5$L
                                     THEN @extschema@.hash_api_key(one.%1$I::text) END) AS h (digest)
                      WHERE one.%1$I IS NOT NULL OFFSET 0) AS t)
         SELECT part, row_id, reason FROM plain WHERE reason IS NOT NULL
          UNION ALL
         SELECT part, row_id, ''duplicate'' FROM plain WHERE digest IS NOT NULL AND nth > 1
          UNION ALL
         SELECT part, row_id, ''duplicate'' FROM plain
          WHERE nth = 1 AND NOT has_it AND EXISTS (SELECT FROM %4$s AS one WHERE %3$s = digest)
          ORDER BY 1, 2',
        key_column, algorithm, stored, target, each_hash_once);
END
$$;
COMMENT ON FUNCTION @extschema@.api_key_quarantine(regclass, name, name, text) IS
    'rows whose plaintext key can''t be hashed, by table, ctid and reason; for a protected table its own columns and algorithm count';

CREATE FUNCTION @extschema@.check_api_keys(
    target regclass,
    key_column name DEFAULT 'api_key',
    hash_column name DEFAULT 'api_key_hash',
    algorithm text DEFAULT 'sha256',
    cost integer DEFAULT 10)
    RETURNS TABLE (finding text, keys bigint, estimate interval)
    LANGUAGE plpgsql STRICT
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    protection record;
    plaintext bigint;
    began timestamptz;
    -- one row's share of the UPDATE, as measured on an ordinary machine
    per_key interval := '10 microseconds';
BEGIN
    SELECT * INTO protection FROM @extschema@.api_key_protection(target);
    IF FOUND THEN
        key_column := protection.key_column;
        algorithm := protection.algorithm;
        cost := coalesce(protection.cost, cost);
    END IF;
    IF algorithm = 'bcrypt' THEN
        began := clock_timestamp();
        PERFORM @extschema@.hash_api_keys(array_fill('calibration'::text, ARRAY[16]), algorithm, cost);
        per_key := per_key + (clock_timestamp() - began) / 16;
    END IF;
    EXECUTE format('SELECT count(%I) FROM %s', key_column, target) INTO plaintext;
    FOR finding, keys IN
        SELECT q.reason, count(*)
          FROM @extschema@.api_key_quarantine(target, key_column, hash_column, algorithm) AS q
         GROUP BY q.reason ORDER BY q.reason
    LOOP
        plaintext := plaintext - keys;
        RETURN NEXT;
    END LOOP;
    finding := 'ready to migrate';
    keys := plaintext;
    estimate := plaintext * per_key;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION @extschema@.check_api_keys(regclass, name, name, text, integer) IS
    'dry run of migrate_api_keys: keys that can''t be hashed by reason, keys that can, and about how long that takes';

-- doing it

CREATE FUNCTION @extschema@.api_key_migrate_batch(
    part regclass, first_block bigint, end_block bigint, protection record, pending text,
    threads integer, users_path text)
    RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET jit = off
    AS $$
DECLARE
    first_row tid := format('(%s,0)', first_block);
    next_row tid;
    end_row constant tid := format('(%s,0)', least(end_block, 4294967295));
    in_range constant text := format(
        't.ctid OPERATOR(pg_catalog.>=) $1 AND t.ctid OPERATOR(pg_catalog.<) $2 AND %s', pending);
    -- Keep a hash that an application made of this very key, if it is good enough.
    kept constant text := format(
        'CASE WHEN NOT @extschema@.api_key_needs_rehash(t.%I::pg_catalog.text, %L, %s) THEN t.%1$I::pg_catalog.text END',
        protection.hash_column, protection.algorithm, coalesce(protection.cost, 10));
    set_tag constant text := CASE WHEN protection.tag_column IS NULL THEN '' ELSE
        format(', %I = @extschema@.api_key_tag(t.%I::pg_catalog.text, %s)',
               protection.tag_column, protection.key_column, protection.tag_bits) END;
    new_hash text := format('@extschema@.hash_api_key(t.%I::pg_catalog.text)', protection.key_column);
    source text := '';
    same_key text := '';
    update_range text;
    starts tid[] := ARRAY[first_row];
    row_ids tid[];
    digests text[];
    hashes text[];
    moved bigint := 0;
    moved_now bigint;
    refused boolean;
    row_by_row boolean := false;
BEGIN
    IF protection.algorithm = 'bcrypt' THEN
        -- Keys leave the table only as arguments of the functions that hash them: what passes
        -- between statements is a digest, by which a row is known again.
        EXECUTE format(
            'SELECT array_agg(row_id), array_agg(digest),
                    @extschema@.hash_api_keys(array_agg(key), ''bcrypt'', %s, %s)
               FROM (SELECT t.ctid AS row_id, t.%I::text AS key, %s AS digest FROM ONLY %s AS t WHERE %s) AS batch',
            protection.cost, threads, protection.key_column, new_hash, part, in_range)
           INTO row_ids, digests, hashes USING first_row, end_row;
        IF row_ids IS NULL THEN
            RETURN 0;
        END IF;
        source := 'FROM unnest($3, $4, $5) AS batch (row_id, digest, hash)';
        same_key := format('AND t.ctid OPERATOR(pg_catalog.=) batch.row_id
                            AND CASE WHEN %s THEN %s OPERATOR(pg_catalog.=) batch.digest END', pending, new_hash);
        new_hash := 'batch.hash';
    END IF;

    -- Compare and set: after waiting for a writer, PostgreSQL tests the condition again on what
    -- that writer left, and hashes the key that stands there then.
    update_range := format(
        'UPDATE ONLY %s AS t SET %I = coalesce(%s, %s), %I = NULL %s %s WHERE %s %s',
        part, protection.hash_column, kept, new_hash, protection.key_column, set_tag, source,
        in_range, same_key);
    -- First the whole range; if a row is refused, row by row.
    LOOP
        refused := false;
        FOR i IN 1 .. cardinality(starts) LOOP
            first_row := starts[i];
            next_row := coalesce(starts[i + 1], end_row);
            BEGIN
                -- Triggers of the table find what they would find in an UPDATE by hand, so what
                -- is executed here names every operator with its schema.
                PERFORM pg_catalog.set_config('search_path', users_path, true);
                EXECUTE update_range USING first_row, next_row, row_ids, digests, hashes;
                GET DIAGNOSTICS moved_now = ROW_COUNT;
                SET CONSTRAINTS ALL IMMEDIATE; -- what would be refused at the COMMIT is refused here
                PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
                moved := moved + moved_now;
            EXCEPTION
                WHEN OTHERS THEN
                    -- Refused by a constraint, a trigger (whatever its SQLSTATE) or a lock: a single
                    -- row stays as it is, maybe until the next pass. What no row gets past is an
                    -- error: a missing privilege or object, resources, a server that goes down.
                    IF left(SQLSTATE, 2) IN ('25', '42', '53', '54', '57', '58', 'F0', 'XX') THEN
                        RAISE;
                    END IF;
                    refused := true;
            END;
        END LOOP;
        EXIT WHEN NOT refused OR row_by_row;
        row_by_row := true;
        EXECUTE format('SELECT array_agg(t.ctid ORDER BY t.ctid) FROM ONLY %s AS t WHERE %s', part, in_range)
           INTO starts USING first_row, end_row;
        EXIT WHEN starts IS NULL;
    END LOOP;
    RETURN moved;
END
$$;
COMMENT ON FUNCTION @extschema@.api_key_migrate_batch(regclass, bigint, bigint, record, text, integer, text) IS
    'hashes the plaintext keys of a range of blocks of one table or partition, for migrate_api_keys; returns how many';

CREATE FUNCTION @extschema@.api_key_migration_lock(target regclass) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT hashtextextended('pg_api_key migration', target::oid::bigint) $$;
COMMENT ON FUNCTION @extschema@.api_key_migration_lock(regclass) IS
    'number of the first advisory lock by which sessions that migrate the same table know of each other';

CREATE PROCEDURE @extschema@.migrate_api_keys(
    target regclass,
    batch_size integer DEFAULT 1000,
    threads integer DEFAULT 0,
    pause interval DEFAULT '0')
    LANGUAGE plpgsql
    AS $$
-- A procedure that commits can have no SET clause, so the path is set anew in each transaction,
-- before anything is named that the caller's path could give another meaning.
DECLARE
    users_path constant pg_catalog.text := pg_catalog.current_setting('search_path');
    protection record;
    most_rows bigint;
    parts pg_catalog.regclass[];
    part pg_catalog.regclass;
    rows_in bigint[];
    rows_in_part bigint;
    keys_in bigint[];
    keys_in_part bigint;
    blocks bigint;
    step bigint;
    start bigint;
    at bigint;
    began timestamp with time zone;
    told timestamp with time zone;
    total bigint;
    moved bigint;
    moved_in_pass bigint;
    moved_now bigint;
    rate numeric;
    bounds bigint[];
    pending pg_catalog.text;
    lock bigint;
    slot bigint;
    left_over pg_catalog.text;
    left_count bigint;
    passed_over bigint;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    began := clock_timestamp();
    told := began;
    moved := 0;
    IF num_nulls(target, batch_size, threads, pause) > 0 OR batch_size < 1 OR threads < 0 OR pause < '0' THEN
        RAISE EXCEPTION 'batch_size must be positive, threads and pause not negative'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave out what has a default.';
    END IF;
    SELECT * INTO protection FROM @extschema@.api_key_protection(target);
    IF protection.in_force IS NULL AND pg_partition_root(target) <> target
       AND EXISTS (SELECT FROM @extschema@.api_key_protection(pg_partition_root(target))) THEN
        RAISE EXCEPTION 'table % is a partition', target
            USING ERRCODE = 'wrong_object_type',
                  HINT = format('All partitions are migrated at once: CALL %s(%L);',
                                '@extschema@.migrate_api_keys', pg_partition_root(target));
    ELSIF protection.in_force IS NOT TRUE THEN
        RAISE EXCEPTION 'table % is not protected', target
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('New keys would go on coming in plaintext; first: SELECT %s(%L);',
                                '@extschema@.protect_api_keys', target);
    END IF;
    pending := @extschema@.api_key_pending(protection.key_column, protection.hash_column, protection.algorithm);
    lock := @extschema@.api_key_migration_lock(target);
    -- A batch of bcrypt hashes takes about two seconds on two cores, however costly one is.
    most_rows := CASE WHEN protection.algorithm = 'bcrypt'
                      THEN least(batch_size, greatest(12, 96 * 2.0 ^ (10 - protection.cost)))
                      ELSE batch_size END;

    LOOP
        SELECT coalesce(array_agg(c.oid::regclass ORDER BY c.oid), '{}') INTO parts
          FROM (SELECT relid FROM pg_partition_tree(target) UNION SELECT target) AS tree (relid)
               JOIN pg_class AS c ON c.oid = tree.relid
         WHERE c.relkind IN ('r', 'f'); -- foreign ones, which have no blocks here, are only counted
        left_count := 0;
        FOR i IN 1 .. cardinality(parts) LOOP
            IF row_security_active(parts[i]) THEN
                RAISE EXCEPTION 'row-level security hides rows of table % from "%"', parts[i], current_user
                    USING ERRCODE = 'insufficient_privilege',
                          HINT = 'Migrate as its owner, without FORCE ROW LEVEL SECURITY, or as a role with BYPASSRLS.';
            END IF;
            EXECUTE format('SELECT count(*), count(%I) FROM ONLY %s', protection.key_column, parts[i])
               INTO rows_in_part, keys_in_part;
            rows_in[i] := rows_in_part;
            keys_in[i] := keys_in_part;
            left_count := left_count + keys_in_part;
        END LOOP;
        total := coalesce(total, left_count);
        EXIT WHEN left_count = 0;
        moved_in_pass := 0;
        FOR i IN 1 .. cardinality(parts) LOOP
            CONTINUE WHEN keys_in[i] = 0;
            part := parts[i];
            blocks := pg_relation_size(part) / current_setting('block_size')::bigint;
            step := greatest(1, most_rows * blocks / rows_in[i]);
            -- Sessions that migrate the same table begin at different places: the first at the
            -- start, the second in the middle. Each lock tells for one transaction that its place
            -- is taken. Correctness does not depend on it.
            SELECT s INTO slot FROM generate_series(0, 3) AS s
             WHERE pg_try_advisory_xact_lock(lock + s) LIMIT 1;
            start := blocks * (ARRAY[0, 2, 1, 3])[coalesce(slot, 0) + 1] / 4;
            FOREACH bounds SLICE 1 IN ARRAY ARRAY[[start, blocks], [0, start]] LOOP
                at := bounds[1];
                WHILE at < bounds[2] LOOP
                    moved_now := @extschema@.api_key_migrate_batch(
                        part, at, least(at + step, bounds[2]), protection, pending, threads, users_path);
                    -- for triggers that are deferred until now
                    PERFORM set_config('search_path', users_path, true);
                    COMMIT;
                    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
                    PERFORM pg_try_advisory_xact_lock(lock + coalesce(slot, 0));
                    moved := moved + moved_now;
                    moved_in_pass := moved_in_pass + moved_now;
                    at := at + step;
                    IF clock_timestamp() > told + interval '5 seconds' THEN
                        told := clock_timestamp();
                        rate := moved / extract(epoch FROM told - began);
                        RAISE NOTICE 'table %: % of % keys hashed (% %%), % a second, about % left', target,
                            moved, total, round(100.0 * moved / greatest(total, moved, 1)), round(rate, 1),
                            coalesce(date_trunc('second', greatest(total - moved, 0) / nullif(rate, 0)
                                                          * interval '1 second')::text, 'unknown time');
                    END IF;
                    IF pause > '0' THEN
                        PERFORM pg_sleep_for(pause);
                    END IF;
                END LOOP;
            END LOOP;
        END LOOP;
        EXIT WHEN moved_in_pass = 0;
    END LOOP;

    RAISE NOTICE 'table %: % keys hashed in %', target, moved,
        date_trunc('milliseconds', clock_timestamp() - began);
    EXECUTE format('SELECT count(%I) FROM %s', protection.key_column, target) INTO left_count;
    IF left_count > 0 THEN
        SELECT string_agg(format('%s %s', q.keys, q.reason), ', ' ORDER BY q.reason), coalesce(sum(q.keys), 0)
          INTO left_over, left_count
          FROM (SELECT reason, count(*) AS keys FROM @extschema@.api_key_quarantine(target) GROUP BY reason) AS q;
        IF left_over IS NOT NULL THEN
            RAISE WARNING '% keys of table % stay in plaintext: %', left_count, target, left_over
                USING HINT = format('SELECT * FROM %s(%L); names their rows. Issue new keys to their owners.',
                                    '@extschema@.api_key_quarantine', target);
        END IF;
        EXECUTE format('SELECT count(%I) - $1 FROM %s', protection.key_column, target)
           INTO passed_over USING left_count;
        IF passed_over > 0 THEN
            RAISE WARNING '% keys of table % could be hashed, but their rows were locked or refused the update',
                          passed_over, target
                USING HINT = 'Call again for those that were locked. A plain UPDATE of the others tells which trigger or constraint is in the way.'
                    || (SELECT CASE WHEN relkind = 'r' AND relhassubclass
                                    THEN ' Inheritance children are protected and migrated by themselves.' ELSE '' END
                          FROM pg_class WHERE oid = target);
        END IF;
    END IF;
    -- A procedure that called this one goes on in the same transaction.
    PERFORM set_config('search_path', users_path, true);
END
$$;
COMMENT ON PROCEDURE @extschema@.migrate_api_keys(regclass, integer, integer, interval) IS
    'hashes the plaintext keys of a protected table in place, in batches that commit; may be repeated, interrupted, and run by several sessions';
