-- pg_api_key: why a key and a stored value do or do not match

CREATE FUNCTION @extschema@.explain_api_key(key text, hash text) RETURNS text
    AS 'MODULE_PATHNAME', 'explain_api_key_wrapper'
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION @extschema@.explain_api_key(text, text) IS
    'why the API key and the stored value do or do not match, in a sentence that holds neither';

CREATE FUNCTION @extschema@.explain_unknown_api_key(key text) RETURNS text
    AS 'MODULE_PATHNAME', 'explain_unknown_api_key_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.explain_unknown_api_key(text) IS
    'what can be said of an API key that nothing stored explains';

CREATE FUNCTION @extschema@.api_key_fingerprint(key text) RETURNS text
    AS 'MODULE_PATHNAME', 'api_key_fingerprint_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.api_key_fingerprint(text) IS
    'first 12 hex digits of the SHA-256 of a text, for comparing a key with a log line';

CREATE FUNCTION @extschema@.api_key_lookalikes(key text, OUT stored text, OUT mistake text) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'api_key_lookalikes_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 80;
COMMENT ON FUNCTION @extschema@.api_key_lookalikes(text) IS
    'every wrong value by which the API key may stand in a column of SHA-256 hashes; for explain_api_key';

CREATE FUNCTION @extschema@.api_key_variants(key text, OUT variant text, OUT mistake text) RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'api_key_variants_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 8;
COMMENT ON FUNCTION @extschema@.api_key_variants(text) IS
    'other texts that were perhaps meant in place of the API key; for explain_api_key';

CREATE FUNCTION @extschema@.explain_api_key(target regclass, key text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
DECLARE
    lookup record;
    fingerprint constant text := @extschema@.api_key_fingerprint(key);
    hashed bigint;
    plaintext bigint;
    explanation text;
BEGIN
    SELECT * INTO lookup FROM @extschema@.api_key_lookup(target);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'relation "%" is not protected', target
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('SELECT %s(%L);', '@extschema@.protect_api_keys', target);
    END IF;
    IF key IS NULL THEN
        RETURN 'No match: no key was presented.';
    END IF;

    EXECUTE format('SELECT count(*) FILTER (WHERE @extschema@.verify_api_key($1, found.%s::text)),
                           count(*) FILTER (WHERE NOT @extschema@.verify_api_key($1, found.%1$s::text))
                      FROM @extschema@.find_by_api_key(NULL::%s, $1) AS found', lookup.hash_column, target)
       INTO hashed, plaintext USING key;
    IF hashed > 0 THEN
        explanation := format('Match: the key belongs to %s of table %s',
                              CASE hashed WHEN 1 THEN 'one row' ELSE hashed || ' rows' END, target);
    ELSIF plaintext > 0 THEN
        explanation := format('Match, but the row that was found in table %s is not migrated yet', target);
    ELSE
        EXECUTE format('SELECT ''No match: '' || l.mistake FROM @extschema@.api_key_lookalikes($1) AS l
                         WHERE EXISTS (SELECT FROM %s AS t WHERE t.%s %s)
                         LIMIT 1', target, lookup.hash_column, replace(lookup.hash_equals, ' $::', ' l.stored::'))
           INTO explanation USING key;
    END IF;
    IF explanation IS NULL THEN
        EXECUTE format('SELECT ''No match: '' || v.mistake FROM @extschema@.api_key_variants($1) AS v
                         WHERE EXISTS (SELECT FROM @extschema@.find_by_api_key(NULL::%s, v.variant))
                         LIMIT 1', target)
           INTO explanation USING key;
    END IF;
    RETURN format('%s (fingerprint of the key: %s).',
                  coalesce(explanation, @extschema@.explain_unknown_api_key(key)), fingerprint);
END
$$;
COMMENT ON FUNCTION @extschema@.explain_api_key(regclass, text) IS
    'why a protected table does or does not know the API key, in a sentence that holds neither key nor hash';
