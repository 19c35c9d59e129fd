-- Everything below is made from the numbers 1 to n. pgbench can make numbers at random but no
-- texts, so the keys of the look-ups are numbers of 19 digits; pgbench works them out as here.

CREATE FUNCTION key_of(i bigint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (1000000000000000000 + i * 6700417 % 999999937 * 1000000007)::text;

-- What keys look like elsewhere: 50 bytes.
CREATE FUNCTION long_key_of(i bigint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'sk_live_' || left(encode(sha256(i::text::bytea), 'hex'), 42);

-- A well-formed bcrypt hash of no key: it takes as long to verify as a real one, and no time to make.
CREATE FUNCTION nobodys_hash(i bigint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '$2a$10$' || left(translate(encode(sha256(('salt' || i)::bytea), 'base64'), '+', '.'), 21) || 'O'
        || left(translate(encode(sha256(('digest' || i)::bytea), 'base64'), '+', '.'), 30) || 'O';

-- How long a command takes, in seconds for each of its operations.
CREATE FUNCTION seconds(command text, operations numeric DEFAULT 1) RETURNS numeric
    LANGUAGE plpgsql
    AS $$
DECLARE
    began timestamptz := clock_timestamp();
BEGIN
    EXECUTE command;
    RETURN extract(epoch FROM clock_timestamp() - began) / operations;
END
$$;

CREATE TABLE keys (id integer PRIMARY KEY, name text NOT NULL, api_key text NOT NULL, api_key_hash text NOT NULL);
INSERT INTO keys SELECT i, 'client ' || i, long_key_of(i), hash_api_key(long_key_of(i)) FROM generate_series(1, :keys) AS i;
VACUUM (FREEZE, ANALYZE) keys;
