\set i random(1, :rows)
\set key 1000000000000000000 + :i * 6700417 % 999999937 * 1000000007
SELECT id, name FROM sha256 WHERE api_key_hash = encode(digest(:key, 'sha256'), 'hex');
