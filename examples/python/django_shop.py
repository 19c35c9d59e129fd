"""python django_shop.py: the shop with Django."""

import os

from django.core.wsgi import get_wsgi_application

from web import serve

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

if __name__ == "__main__":
    serve(get_wsgi_application())
