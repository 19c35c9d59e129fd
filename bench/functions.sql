-- One round: a call of each function, in seconds. Read with \i by bench/run.

-- one SHA-256, of keys of 50 bytes
SELECT 'digest call', 'nothing', seconds('SELECT count(api_key) FROM keys', :keys);
SELECT 'digest call', 'hash_api_key', seconds('SELECT count(hash_api_key(api_key)) FROM keys', :keys);
SELECT 'digest call', 'pgcrypto', seconds('SELECT count(encode(digest(api_key, ''sha256''), ''hex'')) FROM keys', :keys);
SELECT 'digest call', 'PostgreSQL', seconds('SELECT count(encode(sha256(convert_to(api_key, ''UTF8'')), ''hex'')) FROM keys', :keys);

-- one bcrypt hash
SELECT 'bcrypt 8 call', 'hash_api_key', seconds('SELECT count(hash_api_key(api_key, ''bcrypt'', 8)) FROM keys WHERE id <= 20', 20);
SELECT 'bcrypt 8 call', 'pgcrypto', seconds('SELECT count(crypt(api_key, gen_salt(''bf'', 8))) FROM keys WHERE id <= 20', 20);
SELECT 'bcrypt 10 call', 'hash_api_key', seconds('SELECT count(hash_api_key(api_key, ''bcrypt'', 10)) FROM keys WHERE id <= 5', 5);
SELECT 'bcrypt 10 call', 'pgcrypto', seconds('SELECT count(crypt(api_key, gen_salt(''bf'', 10))) FROM keys WHERE id <= 5', 5);

-- many bcrypt hashes at once, on all cores
SELECT 'bcrypt bulk', 'hash_api_keys', seconds('SELECT hash_api_keys(array_agg(api_key), ''bcrypt'', 10) FROM keys WHERE id <= 80', 80);
SELECT 'bcrypt bulk', 'pgcrypto', seconds('SELECT count(crypt(api_key, gen_salt(''bf'', 10))) FROM keys WHERE id <= 10', 10);
