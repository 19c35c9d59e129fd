"""What a deployment does: databases, migrations, services; and requests to them."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
WAYS = {"direct": os.environ["PGPORT"], "pgbouncer": os.environ["BOUNCER_PORT"]}


def psql(database, sql, user="postgres"):
    command = ["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-U", user, "-d", database]
    done = subprocess.run(command, input=sql, text=True, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


def create_database(name):
    if psql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'shop'") == "0":
        psql("postgres", (HERE / "roles.sql").read_text())
    psql("postgres", f"CREATE DATABASE {name} OWNER shop")
    psql(
        name,
        """GRANT CREATE ON SCHEMA public TO shop;
           ALTER DEFAULT PRIVILEGES FOR ROLE shop GRANT SELECT, INSERT, UPDATE ON TABLES TO shop_app;
           ALTER DEFAULT PRIVILEGES FOR ROLE shop GRANT USAGE ON SEQUENCES TO shop_app""",
    )
    # Every statement is logged, parameters are not: a key in the log would be one in a statement's text.
    psql(
        "postgres",
        f"""ALTER DATABASE {name} SET log_statement = 'all';
            ALTER DATABASE {name} SET log_parameter_max_length = 0""",
    )


def environment(database, port, user="shop_app"):
    return os.environ | {"PGDATABASE": database, "PGPORT": port, "PGUSER": user}


def migrate(database, target=None):
    command = [sys.executable, "manage.py", "migrate", "--verbosity=0", "shop", *([target] if target else [])]
    subprocess.run(command, cwd=HERE, env=environment(database, WAYS["direct"], "shop"), check=True)


class Service:
    def __init__(self, program, database, port):
        self.process = subprocess.Popen(
            [sys.executable, program], cwd=HERE, env=environment(database, port), text=True, stdout=subprocess.PIPE
        )
        self.url = json.loads(self.process.stdout.readline())["url"]

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.process.stdout.close()

    def request(self, method, path, key=None, body=None):
        headers = {"Content-Type": "application/json"} | ({"X-API-Key": key} if key else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
