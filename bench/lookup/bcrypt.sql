\set i random(1, :probes)
\set key 1000000000000000000 + :i * 6700417 % 999999937 * 1000000007
SELECT id, name FROM find_by_api_key(NULL::bcrypt, :key);
