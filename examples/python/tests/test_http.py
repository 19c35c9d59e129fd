"""Real requests to both programs, straight to PostgreSQL and through pgbouncer."""

import os
import unittest
from pathlib import Path

from deploy import HERE, WAYS, Service, create_database, migrate, psql


class Shop:
    """What has to hold for psycopg and Django alike."""

    @classmethod
    def setUpClass(cls):
        cls.database = f"shop_{cls.__name__.lower()}"
        create_database(cls.database)
        cls.prepare()
        cls.service = Service(cls.program, cls.database, WAYS[cls.way])

    @classmethod
    def tearDownClass(cls):
        cls.service.stop()

    def create(self, name="client"):
        status, client = self.service.request("POST", "/clients", body={"name": name})
        self.assertEqual(status, 201)
        return client["api_key"]

    def status(self, key, method="GET", path="/me", body=None):
        return self.service.request(method, path, key, body)[0]

    def test_create_and_authenticate(self):
        key = self.create("one")
        self.assertEqual(self.service.request("GET", "/me", key), (200, {"name": "one"}))

    def test_many_times_as_prepared_statements(self):
        keys = [self.create(f"client {n}") for n in range(5)]
        for _ in range(4):
            self.assertEqual({self.status(key) for key in keys}, {200})

    def test_wrong_keys(self):
        key = self.create()
        for wrong in (None, key[:-1], key.swapcase(), "two words", "x" * 2000, "' OR true --"):
            self.assertEqual(self.status(wrong), 401)

    def test_save_again_keeps_the_key(self):
        key = self.create("before")
        for name in ("after", "and after that"):
            self.assertEqual(self.status(key, "PUT", "/me", {"name": name}), 200)
        self.assertEqual(self.service.request("GET", "/me", key), (200, {"name": "and after that"}))

    def test_rotate(self):
        old = self.create()
        status, body = self.service.request("POST", "/me/key", old)
        self.assertEqual(status, 200)
        self.assertEqual((self.status(old), self.status(body["api_key"])), (401, 200))
        self.assertEqual(self.status(body["api_key"], "PUT", "/me", {"name": "again"}), 200)
        self.assertEqual(self.status(body["api_key"]), 200)

    def test_nothing_is_in_plaintext(self):
        key = self.create()
        self.assertEqual(psql(self.database, f"SELECT count(*) FROM {self.table} WHERE api_key IS NOT NULL"), "0")
        self.assertFalse(key in Path(os.environ["EXAMPLES_LOG"]).read_text(), "the server's log has the key")


class Psycopg(Shop):
    program, table = "psycopg_shop.py", "clients"

    @classmethod
    def prepare(cls):
        psql(cls.database, (HERE / "plain.sql").read_text(), user="shop")


class Django(Shop):
    program, table = "django_shop.py", "shop_client"

    @classmethod
    def prepare(cls):
        """The table is in service, with a client, before it is protected."""
        migrate(cls.database, "0001")
        psql(cls.database, "INSERT INTO shop_client (name, api_key) VALUES ('old client', 'key-of-before')")
        migrate(cls.database)

    def test_a_key_of_before(self):
        self.assertEqual(self.service.request("GET", "/me", "key-of-before"), (200, {"name": "old client"}))


class PsycopgDirect(Psycopg, unittest.TestCase):
    way = "direct"


class PsycopgBouncer(Psycopg, unittest.TestCase):
    way = "pgbouncer"


class DjangoDirect(Django, unittest.TestCase):
    way = "direct"


class DjangoBouncer(Django, unittest.TestCase):
    way = "pgbouncer"


if __name__ == "__main__":
    unittest.main()
