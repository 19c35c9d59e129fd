from django.db import migrations, models


class Migration(migrations.Migration):
    """As it was: keys in plaintext."""

    initial = True
    operations = [
        migrations.CreateModel(
            "Client",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.TextField()),
                ("api_key", models.TextField(blank=True, null=True, unique=True)),
            ],
        ),
    ]
