"""What an ORM does to a protected table, and what it must not."""

import os
import unittest

from deploy import WAYS, create_database, environment, migrate

DATABASE = "shop_orm"


def setUpModule():
    create_database(DATABASE)
    migrate(DATABASE)
    os.environ.update(environment(DATABASE, WAYS["direct"]))
    os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
    import django

    django.setup()


def tearDownModule():
    from django.db import connection

    connection.close()


class Saving(unittest.TestCase):
    def setUp(self):
        from django.db import models
        from shop.models import Client

        self.Client, self.plain_save = Client, models.Model.save

    def works(self, key):
        return self.Client.for_key(key) is not None

    def test_a_saved_object_holds_no_key(self):
        client = self.Client.objects.create(name="a", api_key="key-a")
        self.assertIsNone(client.api_key)
        self.assertRegex(client.api_key_hash, "^[0-9a-f]{64}$")

    def test_a_loaded_object_is_saved_whole(self):
        client = self.Client.objects.create(name="b", api_key="key-b")
        self.Client.objects.get(pk=client.pk).save()
        self.assertTrue(self.works("key-b"))

    def test_a_save_without_refresh_may_be_repeated(self):
        client = self.Client(name="c", api_key="key-c")
        self.plain_save(client)
        self.plain_save(client)  # with the key, and no hash
        self.assertTrue(self.works("key-c"))

    def test_but_clearing_the_key_then_clears_the_hash(self):
        client = self.Client(name="d", api_key="key-d")
        self.plain_save(client)
        client.api_key = None
        self.plain_save(client)  # with neither: why Client.save() refreshes
        self.assertFalse(self.works("key-d"))

    def test_update_fields(self):
        client = self.Client.objects.create(name="e", api_key="key-e")
        client.name = "E"
        client.save(update_fields=["name"])
        client.api_key = "key-e2"
        client.save(update_fields=["api_key"])
        self.assertEqual([self.works(key) for key in ("key-e", "key-e2")], [False, True])

    def test_update_of_a_query_set(self):
        client = self.Client.objects.create(name="f", api_key="key-f")
        self.Client.objects.filter(pk=client.pk).update(api_key="key-f2")
        self.assertTrue(self.works("key-f2"))

    def test_bulk_create(self):
        self.Client.objects.bulk_create([self.Client(name=n, api_key=f"key-bulk-{n}") for n in "gh"])
        self.assertTrue(self.works("key-bulk-g") and self.works("key-bulk-h"))

    def test_an_upsert_of_the_key_is_refused_with_the_way_out(self):
        from django.db import NotSupportedError

        client = self.Client.objects.create(name="i", api_key="key-i")
        upsert = {"update_conflicts": True, "unique_fields": ["id"]}
        again = [self.Client(pk=client.pk, name="i", api_key="key-i2")]
        with self.assertRaisesRegex(NotSupportedError, "api_key_hash = EXCLUDED.api_key_hash"):
            self.Client.objects.bulk_create(again, update_fields=["api_key"], **upsert)
        self.assertTrue(self.works("key-i"))
        again = [self.Client(pk=client.pk, name="i", api_key="key-i2")]
        self.Client.objects.bulk_create(again, update_fields=["api_key_hash"], **upsert)
        self.assertEqual([self.works(key) for key in ("key-i", "key-i2")], [False, True])

    def test_a_search_by_key_finds_nothing(self):
        from django.db import IntegrityError

        self.Client.objects.create(name="j", api_key="key-j")
        self.assertFalse(self.Client.objects.filter(api_key="key-j").exists())
        with self.assertRaises(IntegrityError):
            self.Client.objects.get_or_create(api_key="key-j", defaults={"name": "j"})

    def test_an_error_names_no_key(self):
        with self.assertRaises(Exception) as caught:
            self.Client.objects.create(name="k", api_key="key with blanks")
        self.assertNotIn("key with blanks", str(caught.exception))

    def test_the_migrations_say_what_the_models_say(self):
        from django.core.management import call_command

        call_command("makemigrations", check=True, dry_run=True, verbosity=0)


if __name__ == "__main__":
    unittest.main()
