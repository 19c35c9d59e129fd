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

-- How long commands take for a key, in seconds. Each row of the array is a name and the beginning of
-- a command that reads the keys. The commands take turns, part of the keys after part, each time
-- beginning with another. The first part only warms up.
CREATE FUNCTION in_turns(parts integer, size integer, commands text[]) RETURNS TABLE (variant text, seconds numeric)
    LANGUAGE plpgsql
    AS $$
DECLARE
    variants constant integer := array_length(commands, 1);
    took interval[] := array_fill(interval '0', ARRAY[variants]);
    one integer;
    began timestamptz;
BEGIN
    FOR part IN 0 .. parts LOOP
        FOR turn IN 0 .. variants - 1 LOOP
            one := (turn + part) % variants + 1;
            began := clock_timestamp();
            EXECUTE commands[one][2] || ' FROM keys WHERE id > $1 AND id <= $2' USING part * size, (part + 1) * size;
            IF part > 0 THEN
                took[one] := took[one] + (clock_timestamp() - began);
            END IF;
        END LOOP;
    END LOOP;
    FOR one IN 1 .. variants LOOP
        variant := commands[one][1];
        seconds := extract(epoch FROM took[one]) / (parts * size);
        RETURN NEXT;
    END LOOP;
END
$$;

CREATE TABLE keys (id integer PRIMARY KEY, name text NOT NULL, api_key text NOT NULL, api_key_hash text NOT NULL);
INSERT INTO keys SELECT i, 'client ' || i, long_key_of(i), hash_api_key(long_key_of(i)) FROM generate_series(1, :keys) AS i;
VACUUM (FREEZE, ANALYZE) keys;
