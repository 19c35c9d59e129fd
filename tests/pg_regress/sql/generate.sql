-- generate_api_key and the checksum that tells a mistyped key before any look-up
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never

SELECT generate_api_key() ~ '^ak_[0-9A-Za-z]{36}$';
SELECT generate_api_key('sk_live') ~ '^sk_live_[0-9A-Za-z]{36}$';
SELECT generate_api_key(prefix => 'x') ~ '^x_[0-9A-Za-z]{36}$';
SELECT length(generate_api_key(repeat('p', 32)));
SELECT count(DISTINCT generate_api_key()) FROM generate_series(1, 1000);
SELECT bool_and(api_key_checksum_valid(generate_api_key(prefix))) FROM unnest(ARRAY['ak', 'sk_live', 'a-b', '_', '-', '0', repeat('p', 32)]) AS prefix, generate_series(1, 100);
-- one key a row, though the argument is constant
SELECT count(DISTINCT key) FROM (SELECT generate_api_key('ak') AS key FROM generate_series(1, 10)) AS made;
-- every generated key can be hashed, with bcrypt too
SELECT bool_and(api_key_fault(key) IS NULL AND api_key_fault(key, 'bcrypt') IS NULL) FROM (SELECT generate_api_key(repeat('p', 32)) AS key FROM generate_series(1, 100)) AS made;
-- all 62 characters come up, and none more than its share
SELECT count(*), max(times) < 1000 FROM (SELECT count(*) AS times FROM (SELECT regexp_split_to_table(substr(generate_api_key('k'), 3, 30), '') AS c FROM generate_series(1, 1000)) AS made GROUP BY c) AS seen;

-- published tokens, GitHub's example first
SELECT api_key_checksum_valid('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');
SELECT api_key_checksum_valid('any_prefix_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17');
SELECT bool_or(api_key_checksum_valid(overlay('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' PLACING '!' FROM place))) FROM generate_series(4, 40) AS place;
SELECT api_key_checksum_valid('ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18');
SELECT api_key_checksum_valid('ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq1');
SELECT api_key_checksum_valid('ghpzQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17');
SELECT api_key_checksum_valid('_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17');
SELECT api_key_checksum_valid('ghp-zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17');
SELECT api_key_checksum_valid(E'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\n');
SELECT api_key_checksum_valid(' 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');
SELECT api_key_checksum_valid('GHP_ZQWBUTSOORI4A9SPHCVY5NCNSDKXKJ0MLQ17');
SELECT api_key_checksum_valid(''), api_key_checksum_valid('_'), api_key_checksum_valid(repeat('_', 40)), api_key_checksum_valid(repeat('k', 2000)), api_key_checksum_valid(U&'\00e9');
SELECT api_key_checksum_valid(NULL) IS NULL;

-- prefixes that are refused
SELECT probe.answer('SELECT generate_api_key($1)', '');
SELECT probe.answer('SELECT generate_api_key($1)', NULL);
SELECT probe.answer('SELECT generate_api_key($1)', 'a b');
SELECT probe.answer('SELECT generate_api_key($1)', 'marker$');
SELECT probe.answer('SELECT generate_api_key($1)', U&'cl\00e9');
SELECT probe.answer('SELECT generate_api_key($1)', E'ak\n');
SELECT probe.answer('SELECT generate_api_key($1)', repeat('m', 33));

-- the look-up tag: printf 'pg_api_key:tag:%s' KEY | sha256sum | cut -c1-4
SELECT to_hex(api_key_tag('key'));
SELECT api_key_tag('key', 0), api_key_tag('key', 1), api_key_tag('key', 8), api_key_tag('key', 16), api_key_tag('key', 31);
SELECT api_key_tag('key', bits => 16) = get_byte(d, 0) * 256 + get_byte(d, 1) FROM sha256('pg_api_key:tag:key') AS d;
SELECT bool_and(api_key_tag('k' || n, bits) BETWEEN 0 AND (1::bigint << bits) - 1) FROM generate_series(1, 100) AS n, generate_series(0, 31) AS bits;
-- what is no key has a tag too, and finds no row
SELECT api_key_tag('') IS NOT NULL, api_key_tag(U&'\00e9') IS NOT NULL, api_key_tag(repeat('k', 2000)) IS NOT NULL;
SELECT api_key_tag(NULL) IS NULL, api_key_tag('key', NULL) IS NULL;
SELECT probe.answer('SELECT api_key_tag($1, -1)', 'marker_1');
SELECT probe.answer('SELECT api_key_tag($1, 32)', 'marker_1');
SELECT probe.answer('SELECT api_key_tag($1, 272)', 'marker_1');
SELECT probe.answer('SELECT api_key_tag($1, -2147483648)', 'marker_1');

-- which stored hashes a policy would make anew
SELECT api_key_needs_rehash(hash_api_key('k'), 'sha256'), api_key_needs_rehash(hash_api_key('k'), 'bcrypt');
SELECT api_key_needs_rehash(hash_api_key('k', 'bcrypt', 4), 'bcrypt', 4), api_key_needs_rehash(hash_api_key('k', 'bcrypt', 4), 'bcrypt', 5), api_key_needs_rehash(hash_api_key('k', 'bcrypt', 5), 'bcrypt', 4), api_key_needs_rehash(hash_api_key('k', 'bcrypt', 4), 'bcrypt'), api_key_needs_rehash(hash_api_key('k', 'bcrypt', 4), 'sha256');
SELECT api_key_needs_rehash('$2y$10$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW', 'bcrypt'), api_key_needs_rehash('$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW', 'bcrypt');
SELECT api_key_needs_rehash('', 'sha256'), api_key_needs_rehash('plain', 'bcrypt'), api_key_needs_rehash('$hmac-sha256$v1$' || hash_api_key('k'), 'sha256');
SELECT num_nulls(api_key_needs_rehash(NULL, 'sha256'), api_key_needs_rehash('x', NULL), api_key_needs_rehash('x', 'bcrypt', NULL));
SELECT probe.answer('SELECT api_key_needs_rehash($1, ''md5'')', 'marker_1');
SELECT probe.answer('SELECT api_key_needs_rehash(''bcrypt'', $1)', 'marker_1');
SELECT probe.answer('SELECT api_key_needs_rehash($1, ''bcrypt'', 3)', 'marker_1');
SELECT probe.answer('SELECT api_key_needs_rehash($1, ''bcrypt'', 15)', 'marker_1');
SELECT is_api_key_hash(hash_api_key('k')), is_api_key_hash(hash_api_key('k', 'bcrypt', 4)), is_api_key_hash('$hmac-sha256$v1$' || hash_api_key('k')), is_api_key_hash('k'), is_api_key_hash(''), is_api_key_hash(NULL);
