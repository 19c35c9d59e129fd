from django.db import migrations, models


class Migration(migrations.Migration):
    """From here on no write leaves a key in plaintext, and what was there is hashed.

    On a large table, call migrate_api_keys() in place of the UPDATE, outside of a migration: it commits
    as it goes, which a migration must not.
    """

    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.RunSQL("CREATE EXTENSION IF NOT EXISTS pg_api_key", migrations.RunSQL.noop),
        migrations.AddField("Client", "api_key_hash", models.TextField(editable=False, null=True, unique=True)),
        migrations.RunSQL(
            "SELECT protect_api_keys('shop_client')",
            "SELECT unprotect_api_keys('shop_client')",
        ),
        migrations.RunSQL(
            "UPDATE shop_client SET api_key = api_key WHERE api_key IS NOT NULL",
            migrations.RunSQL.noop,
        ),
        # The hash's index takes over uniqueness; this one's pages would keep old keys.
        migrations.AlterField("Client", "api_key", models.TextField(blank=True, null=True)),
    ]
