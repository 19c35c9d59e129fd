import os

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "for this example only")
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["shop"]
ROOT_URLCONF = "shop.views"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
        "NAME": os.environ["PGDATABASE"],
        "CONN_MAX_AGE": None,
        # pgbouncer in transaction mode may change the server between two statements.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {
            # Without this, keys stand in the text of SQL statements, and so in logs and pg_stat_activity.
            "server_side_binding": True,
            "prepare_threshold": 0,
        },
    }
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"django.request": {"level": "CRITICAL"}, "django.db.backends": {"level": "WARNING"}},
}
