-- One round: calls of each function, in seconds a call.

-- one SHA-256, of keys of 50 bytes
SELECT 'digest call', * FROM in_turns(20, :keys / 21, ARRAY[
    ['nothing', 'SELECT count(api_key)'],
    ['hash_api_key', 'SELECT count(hash_api_key(api_key))'],
    ['pgcrypto', 'SELECT count(encode(digest(api_key, ''sha256''), ''hex''))'],
    ['PostgreSQL', 'SELECT count(encode(sha256(convert_to(api_key, ''UTF8'')), ''hex''))']]);

-- one bcrypt hash
SELECT 'bcrypt 8 call', * FROM in_turns(20, 1, ARRAY[
    ['hash_api_key', 'SELECT count(hash_api_key(api_key, ''bcrypt'', 8))'],
    ['pgcrypto', 'SELECT count(crypt(api_key, gen_salt(''bf'', 8)))']]);
SELECT 'bcrypt 10 call', * FROM in_turns(5, 1, ARRAY[
    ['hash_api_key', 'SELECT count(hash_api_key(api_key, ''bcrypt'', 10))'],
    ['pgcrypto', 'SELECT count(crypt(api_key, gen_salt(''bf'', 10)))']]);

-- many bcrypt hashes at once, on all cores, against as many one by one
SELECT 'bcrypt bulk', * FROM in_turns(1, 40, ARRAY[
    ['hash_api_keys', 'SELECT hash_api_keys(array_agg(api_key), ''bcrypt'', 10)'],
    ['pgcrypto', 'SELECT count(crypt(api_key, gen_salt(''bf'', 10)))']]);
