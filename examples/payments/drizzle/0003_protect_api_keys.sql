-- From here on no write leaves a key in plaintext. 'bcrypt' or 'sha256': the one word that differs.
SELECT protect_api_keys('clients', algorithm => 'bcrypt');
