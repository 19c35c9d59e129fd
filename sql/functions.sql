-- pg_api_key: the scalar functions and the trigger function
--
-- The C functions call no SQL, so they have no search_path to pin; a SET clause would cost more
-- than a SHA-256. (The trigger's one query, for a lost upsert, qualifies all that it names.)

-- hashing

CREATE FUNCTION @extschema@.hash_api_key(key text) RETURNS text
    AS 'MODULE_PATHNAME', 'hash_api_key_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.hash_api_key(text) IS
    'SHA-256 of an API key as 64 lower-case hex digits; deterministic, for WHERE api_key_hash = hash_api_key($1)';

CREATE FUNCTION @extschema@.hash_api_key(key text, algorithm text, cost integer DEFAULT 10) RETURNS text
    AS 'MODULE_PATHNAME', 'hash_api_key_with_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION @extschema@.hash_api_key(text, text, integer) IS
    'hash of an API key by algorithm: sha256, bcrypt (with a fresh salt and the given cost) or hmac-sha256';

CREATE FUNCTION @extschema@.hash_api_keys(keys text[], algorithm text, cost integer DEFAULT 10, threads integer DEFAULT 0) RETURNS text[]
    AS 'MODULE_PATHNAME', 'hash_api_keys_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION @extschema@.hash_api_keys(text[], text, integer, integer) IS
    'hashes of many API keys, in their order, on several threads (0: one a core); nulls stay null';

CREATE FUNCTION @extschema@.verify_api_key(key text, hash text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'verify_api_key_wrapper'
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL SAFE COST 10000;
COMMENT ON FUNCTION @extschema@.verify_api_key(text, text) IS
    'true if the stored hash is the API key''s; false for anything else, null and malformed input included';

CREATE FUNCTION @extschema@.api_key_tag(key text, bits integer DEFAULT 16) RETURNS integer
    AS 'MODULE_PATHNAME', 'api_key_tag_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.api_key_tag(text, integer) IS
    'look-up tag of an API key: the first bits (0 to 31) of a labelled SHA-256, for an index beside salted hashes';

-- making and checking keys

CREATE FUNCTION @extschema@.generate_api_key(prefix text DEFAULT 'ak') RETURNS text
    AS 'MODULE_PATHNAME', 'generate_api_key_wrapper'
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.generate_api_key(text) IS
    'new API key: prefix, underscore, 30 random base62 characters (178 bits) and 6 of checksum';

CREATE FUNCTION @extschema@.api_key_checksum_valid(key text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'api_key_checksum_valid_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.api_key_checksum_valid(text) IS
    'true if the API key ends in the checksum that generate_api_key, GitHub and npm write';

CREATE FUNCTION @extschema@.api_key_fault(key text, algorithm text DEFAULT 'sha256') RETURNS text
    AS 'MODULE_PATHNAME', 'api_key_fault_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.api_key_fault(text, text) IS
    'why the API key can''t be hashed with the algorithm, in a few words without the key; null if it can';

-- monitoring

CREATE FUNCTION @extschema@.api_key_cache_stats(OUT hits bigint, OUT misses bigint, OUT entries integer, OUT capacity integer)
    RETURNS SETOF record
    AS 'MODULE_PATHNAME', 'api_key_cache_stats_wrapper'
    LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 1;
COMMENT ON FUNCTION @extschema@.api_key_cache_stats() IS
    'this backend''s memory of verified bcrypt pairs: hits, misses, entries, and its capacity (pg_api_key.verify_cache_size)';

-- policy

CREATE FUNCTION @extschema@.api_key_needs_rehash(hash text, algorithm text, cost integer DEFAULT 10) RETURNS boolean
    AS 'MODULE_PATHNAME', 'api_key_needs_rehash_wrapper'
    LANGUAGE c STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.api_key_needs_rehash(text, text, integer) IS
    'true if the stored hash is malformed, of another algorithm, or of a lower bcrypt cost than asked for';

CREATE FUNCTION @extschema@.is_api_key_hash(hash text) RETURNS boolean
    AS 'MODULE_PATHNAME', 'is_api_key_hash_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.is_api_key_hash(text) IS
    'true if the text is a well-formed stored hash of any algorithm';

-- the trigger

CREATE FUNCTION @extschema@.hash_api_key_trigger() RETURNS trigger
    AS 'MODULE_PATHNAME', 'hash_api_key_trigger_wrapper'
    LANGUAGE c;
COMMENT ON FUNCTION @extschema@.hash_api_key_trigger() IS
    'hashes the API key of a new row and clears it; arguments: key column, hash column, algorithm, cost, tag column, tag bits';

CREATE FUNCTION @extschema@.api_key_trigger_arguments(stored bytea) RETURNS text[]
    AS 'MODULE_PATHNAME', 'api_key_trigger_arguments_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.api_key_trigger_arguments(bytea) IS
    'splits pg_trigger.tgargs into its arguments';
