"""python serve.py: both programs, ready to be tried."""

import os
import signal

from deploy import HERE, WAYS, Service, create_database, migrate, psql

create_database("shop_psycopg")
psql("shop_psycopg", (HERE / "plain.sql").read_text(), user="shop")
create_database("shop_django")
migrate("shop_django")
programs = [
    Service("psycopg_shop.py", "shop_psycopg", WAYS["pgbouncer"]),
    Service("django_shop.py", "shop_django", WAYS["pgbouncer"]),
]
urls = [program.url for program in programs]
print(f"""
The shop answers twice: with psycopg at {urls[0]}, with Django at {urls[1]}.
In another shell, create a client; its key is shown this once:

    curl -s -H 'Content-Type: application/json' -d '{{"name": "me"}}' {urls[1]}/clients

Come back with it, save the client again, take a new key:

    curl -s -H 'X-API-Key: THE KEY' {urls[1]}/me
    curl -s -X PUT -H 'X-API-Key: THE KEY' -H 'Content-Type: application/json' -d '{{"name": "still me"}}' {urls[1]}/me
    curl -s -X POST -H 'X-API-Key: THE KEY' {urls[1]}/me/key

And see what the table has of it:

    {os.environ["PSQL"]} -h {os.environ["PGHOST"]} -U postgres shop_django -c 'SELECT * FROM shop_client'

Ctrl-C ends all of it.""", flush=True)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
signal.sigwait({signal.SIGINT, signal.SIGTERM})
for program in programs:
    program.stop()
