"""python psycopg_shop.py: the shop with psycopg alone. The connection comes from PGHOST and so on."""

import sys

import psycopg
from psycopg.rows import dict_row

from web import read_json, respond, serve

# Prepared from the first use on, which pgbouncer takes in transaction mode with max_prepared_statements.
db = psycopg.connect(autocommit=True, row_factory=dict_row, prepare_threshold=0)


def create(name):
    # The key is made by the database and returned by it once; the table keeps the hash.
    with db.transaction():
        key = db.execute("SELECT generate_api_key('shop') AS key").fetchone()["key"]
        client = db.execute("INSERT INTO clients (name, api_key) VALUES (%s, %s) RETURNING id, name", (name, key))
        return client.fetchone() | {"api_key": key}


def authenticate(key):
    return db.execute("SELECT * FROM find_by_api_key(NULL::clients, %s)", (key,)).fetchone()


def save(client):
    """Writes every column back, as simple data layers do."""
    db.execute(
        "UPDATE clients SET name = %(name)s, api_key = %(api_key)s, api_key_hash = %(api_key_hash)s WHERE id = %(id)s",
        client,
    )


def rotate(client):
    key = db.execute("SELECT generate_api_key('shop') AS key").fetchone()["key"]
    db.execute("UPDATE clients SET api_key = %s WHERE id = %s", (key, client["id"]))
    return key


def app(environ, start_response):
    route = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if route == ("POST", "/clients"):
        return respond(start_response, "201 Created", create(read_json(environ)["name"]))
    client = authenticate(environ.get("HTTP_X_API_KEY"))
    if client is None:
        return respond(start_response, "401 Unauthorized", {"error": "missing or unknown API key"})
    if route == ("GET", "/me"):
        return respond(start_response, "200 OK", {"name": client["name"]})
    if route == ("PUT", "/me"):
        save(client | {"name": read_json(environ)["name"]})
        return respond(start_response, "200 OK", {})
    if route == ("POST", "/me/key"):
        return respond(start_response, "200 OK", {"api_key": rotate(client)})
    return respond(start_response, "404 Not Found", {"error": "not found"})


if __name__ == "__main__":
    sys.exit(serve(app))
