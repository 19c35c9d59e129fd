-- pg_api_key: bringing a live table from plaintext to hashes

-- what is to be done

CREATE FUNCTION @extschema@.api_key_pending(
    key_column name, hash_column name, algorithm text)
    RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$
    -- A hash of another key beside the plaintext may be in use: such a row is left alone.
    SELECT format('t.%1$I IS NOT NULL AND @extschema@.api_key_fault(t.%1$I::text, %3$L) IS NULL '
                  'AND (t.%2$I IS NULL OR NOT @extschema@.is_api_key_hash(t.%2$I::text) '
                  'OR @extschema@.verify_api_key(t.%1$I::text, t.%2$I::text))',
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
    AS $$
DECLARE
    protection record;
    hash text := 'NULL::text';
    duplicate text := 'false';
BEGIN
    SELECT * INTO protection FROM @extschema@.api_key_protection(target);
    IF FOUND THEN
        key_column := protection.key_column;
        hash_column := protection.hash_column;
        algorithm := protection.algorithm;
    END IF;
    IF EXISTS (SELECT FROM pg_attribute AS a
                WHERE a.attrelid = target AND a.attname = hash_column AND NOT a.attisdropped) THEN
        hash := format('t.%I::text', hash_column);
    END IF;
    -- A unique index takes each hash once: the first row of equal keys gets it.
    IF algorithm = 'sha256' AND (SELECT c.relkind = 'r' FROM pg_class AS c WHERE c.oid = target) THEN
        duplicate := format('nth > 1 OR digest IS DISTINCT FROM hash AND digest IN (SELECT %s FROM %s AS t WHERE %1$s IS NOT NULL)',
                            hash, target);
    END IF;
    RETURN QUERY EXECUTE format($sql$
        WITH plain AS MATERIALIZED (
            SELECT t.tableoid, t.ctid AS row_id, t.%1$I::text AS key, %2$s AS hash,
                   @extschema@.api_key_fault(t.%1$I::text, %3$L) AS fault
              FROM %4$s AS t WHERE t.%1$I IS NOT NULL),
        hashable AS MATERIALIZED (
            SELECT tableoid, row_id, hash, @extschema@.hash_api_key(key) AS digest,
                   @extschema@.is_api_key_hash(hash) AND NOT @extschema@.verify_api_key(key, hash) AS is_other,
                   row_number() OVER (PARTITION BY key COLLATE "C" ORDER BY row_id) AS nth
              FROM plain WHERE fault IS NULL)
        SELECT tableoid::regclass, row_id, fault FROM plain WHERE fault IS NOT NULL
         UNION ALL
        SELECT tableoid::regclass, row_id, CASE WHEN is_other THEN 'another key''s hash beside it' ELSE 'duplicate' END
          FROM hashable WHERE is_other OR %5$s
         ORDER BY 1, 2 $sql$,
        key_column, hash, algorithm, target, duplicate);
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
    part regclass, first_block bigint, end_block bigint, protection record, threads integer)
    RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    first_row constant tid := format('(%s,0)', first_block);
    end_row constant tid := format('(%s,0)', least(end_block, 4294967295));
    pending constant text := @extschema@.api_key_pending(
        protection.key_column, protection.hash_column, protection.algorithm);
    -- Keep a hash that an application made of this very key, if it is good enough.
    kept constant text := format(
        'CASE WHEN NOT @extschema@.api_key_needs_rehash(t.%I::text, %L, %s) THEN t.%1$I::text END',
        protection.hash_column, protection.algorithm, coalesce(protection.cost, 10));
    set_tag constant text := CASE WHEN protection.tag_column IS NULL THEN '' ELSE
        format(', %I = @extschema@.api_key_tag(t.%I::text, %s)',
               protection.tag_column, protection.key_column, protection.tag_bits) END;
    new_hash text := format('@extschema@.hash_api_key(t.%I::text)', protection.key_column);
    source text := '';
    same_key text := '';
    update_range text;
    singly tid[];
    row_ids tid[];
    digests text[];
    hashes text[];
    moved bigint := 0;
    moved_now bigint;
BEGIN
    IF protection.algorithm = 'bcrypt' THEN
        -- Keys leave the table only as arguments of the functions that hash them: what passes
        -- between statements is a digest, by which a row is known again.
        EXECUTE format(
            'SELECT array_agg(row_id), array_agg(digest),
                    @extschema@.hash_api_keys(array_agg(key), ''bcrypt'', %s, %s)
               FROM (SELECT t.ctid AS row_id, t.%I::text AS key, %s AS digest
                       FROM ONLY %s AS t
                      WHERE t.ctid >= $1 AND t.ctid < $2 AND %s) AS batch',
            protection.cost, threads, protection.key_column, new_hash, part, pending)
           INTO row_ids, digests, hashes USING first_row, end_row;
        IF row_ids IS NULL THEN
            RETURN 0;
        END IF;
        source := 'FROM unnest($3, $4, $5) AS batch (row_id, digest, hash)';
        same_key := format('AND t.ctid = batch.row_id AND CASE WHEN %s THEN %s = batch.digest END',
                           pending, new_hash);
        new_hash := 'batch.hash';
    END IF;

    -- Compare and set: after waiting for a writer, PostgreSQL tests the condition again on what
    -- that writer left, and hashes the key that stands there then.
    update_range := format(
        'UPDATE ONLY %1$s AS t SET %2$I = coalesce(%3$s, %4$s), %5$I = NULL %6$s %7$s
          WHERE t.ctid >= $1 AND t.ctid < $2 AND %8$s %9$s',
        part, protection.hash_column, kept, new_hash, protection.key_column, set_tag, source,
        pending, same_key);
    BEGIN
        EXECUTE update_range USING first_row, end_row, row_ids, digests, hashes;
        GET DIAGNOSTICS moved = ROW_COUNT;
        RETURN moved;
    EXCEPTION
        WHEN unique_violation THEN
            NULL; -- row by row, below
        WHEN deadlock_detected OR lock_not_available OR serialization_failure THEN
            RETURN 0; -- the next pass finds them
    END;
    EXECUTE format('SELECT array_agg(t.ctid ORDER BY t.ctid) FROM ONLY %s AS t WHERE t.ctid >= $1 AND t.ctid < $2 AND %s',
                   part, pending)
       INTO singly USING first_row, end_row;
    FOR i IN 1 .. coalesce(cardinality(singly), 0) LOOP
        BEGIN
            EXECUTE update_range USING singly[i], coalesce(singly[i + 1], end_row), row_ids, digests, hashes;
            GET DIAGNOSTICS moved_now = ROW_COUNT;
            moved := moved + moved_now;
        EXCEPTION
            WHEN unique_violation OR deadlock_detected OR lock_not_available OR serialization_failure THEN
                NULL; -- a duplicate stays as it is, a locked row until the next pass
        END;
    END LOOP;
    RETURN moved;
END
$$;
COMMENT ON FUNCTION @extschema@.api_key_migrate_batch(regclass, bigint, bigint, record, integer) IS
    'hashes the plaintext keys of a range of blocks of one table or partition, for migrate_api_keys; returns how many';

CREATE FUNCTION @extschema@.api_key_migration_lock(target regclass, slot bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS $$ SELECT hashtextextended('pg_api_key migration', target::oid::bigint) + coalesce(slot, 0) $$;
COMMENT ON FUNCTION @extschema@.api_key_migration_lock(regclass, bigint) IS
    'number of the advisory lock by which sessions that migrate the same table know of each other';

CREATE PROCEDURE @extschema@.migrate_api_keys(
    target regclass,
    batch_size integer DEFAULT 1000,
    threads integer DEFAULT 0,
    pause interval DEFAULT '0')
    LANGUAGE plpgsql
    AS $$
-- A procedure that commits can have no SET clause, so the path is set anew in each transaction,
-- before anything is named.
DECLARE
    protection record;
    most_rows bigint;
    parts regclass[];
    part regclass;
    rows_in_part bigint;
    keys_in_part bigint;
    blocks bigint;
    step bigint;
    start bigint;
    at bigint;
    began timestamptz;
    told timestamptz;
    total bigint;
    moved bigint;
    moved_in_pass bigint;
    moved_now bigint;
    rate numeric;
    bounds bigint[];
    slot bigint;
    left_over text;
    left_count bigint;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    began := clock_timestamp();
    told := began;
    total := 0;
    moved := 0;
    IF num_nulls(target, batch_size, threads, pause) > 0 OR batch_size < 1 OR threads < 0 OR pause < '0' THEN
        RAISE EXCEPTION 'batch_size must be positive, threads and pause not negative'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Leave out what has a default.';
    END IF;
    SELECT * INTO protection FROM @extschema@.api_key_protection(target);
    IF protection.in_force IS NOT TRUE THEN
        RAISE EXCEPTION 'table % is not protected', target
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('New keys would go on coming in plaintext; first: SELECT %s(%L);',
                                '@extschema@.protect_api_keys', target);
    END IF;
    -- A batch of bcrypt hashes takes about two seconds on two cores, however costly one is.
    most_rows := CASE WHEN protection.algorithm = 'bcrypt'
                      THEN least(batch_size, greatest(12, 320 * 2.0 ^ (10 - protection.cost)))
                      ELSE batch_size END;
    SELECT array_agg(c.oid::regclass ORDER BY c.oid) INTO parts
      FROM (SELECT relid FROM pg_partition_tree(target) UNION SELECT target) AS tree (relid)
           JOIN pg_class AS c ON c.oid = tree.relid
     WHERE c.relkind = 'r';
    FOREACH part IN ARRAY parts LOOP
        EXECUTE format('SELECT count(%I) FROM ONLY %s', protection.key_column, part) INTO keys_in_part;
        total := total + keys_in_part;
    END LOOP;

    LOOP
        moved_in_pass := 0;
        FOREACH part IN ARRAY parts LOOP
            EXECUTE format('SELECT count(*), count(%I) FROM ONLY %s', protection.key_column, part)
               INTO rows_in_part, keys_in_part;
            CONTINUE WHEN keys_in_part = 0;
            blocks := pg_relation_size(part) / current_setting('block_size')::bigint;
            step := greatest(1, most_rows * blocks / rows_in_part);
            -- Sessions that migrate the same table begin at different places: the first at the
            -- start, the second in the middle. Each lock tells for one transaction that its place
            -- is taken. Correctness does not depend on it.
            SELECT min(s) INTO slot FROM generate_series(0, 3) AS s
             WHERE pg_try_advisory_xact_lock(@extschema@.api_key_migration_lock(target, s));
            start := blocks * (ARRAY[0, 2, 1, 3])[coalesce(slot, 0) + 1] / 4;
            FOREACH bounds SLICE 1 IN ARRAY ARRAY[[start, blocks], [0, start]] LOOP
                at := bounds[1];
                WHILE at < bounds[2] LOOP
                    moved_now := @extschema@.api_key_migrate_batch(
                        part, at, least(at + step, bounds[2]), protection, threads);
                    COMMIT;
                    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
                    PERFORM pg_try_advisory_xact_lock(@extschema@.api_key_migration_lock(target, slot));
                    moved := moved + moved_now;
                    moved_in_pass := moved_in_pass + moved_now;
                    at := at + step;
                    IF clock_timestamp() > told + interval '5 seconds' THEN
                        told := clock_timestamp();
                        rate := moved / extract(epoch FROM told - began);
                        RAISE NOTICE 'table %: % of % keys hashed (% %%), % a second, about % left', target,
                            moved, total, round(100.0 * moved / greatest(total, moved)), round(rate, 1),
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
    SELECT string_agg(format('%s %s', q.keys, q.reason), ', ' ORDER BY q.reason), sum(q.keys)
      INTO left_over, left_count
      FROM (SELECT reason, count(*) AS keys FROM @extschema@.api_key_quarantine(target) GROUP BY reason) AS q;
    IF left_over IS NOT NULL THEN
        RAISE WARNING '% keys of table % stay in plaintext: %', left_count, target, left_over
            USING HINT = format('SELECT * FROM %s(%L); names their rows. Issue new keys to their owners.',
                                '@extschema@.api_key_quarantine', target);
    END IF;
END
$$;
COMMENT ON PROCEDURE @extschema@.migrate_api_keys(regclass, integer, integer, interval) IS
    'hashes the plaintext keys of a protected table in place, in batches that commit; may be repeated, interrupted, and run by several sessions';
