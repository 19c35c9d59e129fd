-- Tables to insert into: with the unique index that protect_api_keys makes, and without any index,
-- where the trigger alone makes the difference.

CREATE FUNCTION trigger_pgcrypto() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.api_key_hash := encode(digest(NEW.api_key, 'sha256'), 'hex');
    NEW.api_key := NULL;
    RETURN NEW;
END
$$;

CREATE FUNCTION trigger_postgresql() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.api_key_hash := encode(sha256(convert_to(NEW.api_key, 'UTF8')), 'hex');
    NEW.api_key := NULL;
    RETURN NEW;
END
$$;

CREATE TABLE client (id integer, name text, api_key text, api_key_hash text COLLATE "C" UNIQUE);
CREATE TABLE ours (LIKE client INCLUDING ALL);
SELECT protect_api_keys('ours');
CREATE TABLE pgcrypto (LIKE client INCLUDING ALL);
CREATE TRIGGER hash BEFORE INSERT OR UPDATE ON pgcrypto FOR EACH ROW
    WHEN (NEW.api_key IS NOT NULL) EXECUTE FUNCTION trigger_pgcrypto();
-- What any trigger in C costs that sets one column.
CREATE TABLE plain_c (LIKE client INCLUDING ALL);
CREATE TRIGGER set_key BEFORE INSERT ON plain_c FOR EACH ROW EXECUTE FUNCTION insert_username('api_key');

CREATE TABLE client_bare (LIKE client);
CREATE TABLE ours_bare (LIKE client);
SELECT protect_api_keys('ours_bare');
DROP INDEX ours_bare_api_key_hash_idx;
CREATE TABLE pgcrypto_bare (LIKE client);
CREATE TRIGGER hash BEFORE INSERT OR UPDATE ON pgcrypto_bare FOR EACH ROW
    WHEN (NEW.api_key IS NOT NULL) EXECUTE FUNCTION trigger_pgcrypto();
CREATE TABLE postgresql_bare (LIKE client);
CREATE TRIGGER hash BEFORE INSERT OR UPDATE ON postgresql_bare FOR EACH ROW
    WHEN (NEW.api_key IS NOT NULL) EXECUTE FUNCTION trigger_postgresql();
