-- The least that a migration can do, in the batches of migrate_api_keys: no key is read or hashed.

CREATE PROCEDURE bare_migration(target regclass, batch_size integer DEFAULT 1000)
    LANGUAGE plpgsql
    AS $$
DECLARE
    rows bigint := (SELECT reltuples FROM pg_class WHERE oid = target);
    blocks bigint := pg_relation_size(target) / current_setting('block_size')::bigint;
    step bigint := greatest(1, batch_size * blocks / rows);
    at bigint := 0;
BEGIN
    WHILE at < blocks LOOP
        EXECUTE format('UPDATE %s SET api_key_hash = client_hash, api_key = NULL
                         WHERE ctid >= $1 AND ctid < $2 AND api_key IS NOT NULL', target)
            USING format('(%s,0)', at)::tid, format('(%s,0)', at + step)::tid;
        COMMIT;
        at := at + step;
    END LOOP;
END
$$;
