\set i random(1, :rows)
\set key 1000000000000000000 + :i * 6700417 % 999999937 * 1000000007
SELECT crypt(:key, gen_salt('bf', 10));
