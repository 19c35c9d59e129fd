CREATE FUNCTION hash_api_key(key text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN encode(sha256(key::bytea), 'hex');
