-- The least that a migration can do, in the batches of migrate_api_keys: no hashing, no trigger.

CREATE PROCEDURE bare_migration(batch_size integer DEFAULT 1000)
    LANGUAGE plpgsql
    AS $$
DECLARE
    blocks bigint := pg_relation_size('bare') / current_setting('block_size')::bigint;
    step bigint := greatest(1, batch_size * blocks / (SELECT count(*) FROM bare));
    at bigint := 0;
BEGIN
    WHILE at < blocks LOOP
        UPDATE bare SET api_key_hash = client_hash, api_key = NULL
         WHERE ctid >= format('(%s,0)', at)::tid AND ctid < format('(%s,0)', at + step)::tid
           AND api_key IS NOT NULL;
        COMMIT;
        at := at + step;
    END LOOP;
END
$$;
