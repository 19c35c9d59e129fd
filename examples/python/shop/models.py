from django.db import models


class Client(models.Model):
    name = models.TextField()
    # Written only: the database hashes what arrives here, and clears it.
    api_key = models.TextField(null=True, blank=True)
    api_key_hash = models.TextField(null=True, editable=False, unique=True)

    def save(self, *args, **kwargs):
        """Saves every column, then forgets the key and learns its hash.

        Without the second half this object would go on holding the key, and no hash: saving it once
        more with api_key = None would clear both columns, and lock the client out.
        """
        super().save(*args, **kwargs)
        if self.api_key is not None:
            self.refresh_from_db(fields=["api_key", "api_key_hash"])

    @classmethod
    def for_key(cls, key):
        found = cls.objects.raw("SELECT * FROM find_by_api_key(NULL::shop_client, %s)", [key])
        return next(iter(found), None)
