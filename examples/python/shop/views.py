import json
import secrets

from django.http import JsonResponse
from django.urls import path
from django.views.decorators.http import require_http_methods

from .models import Client


def new_key():
    return "shop_" + secrets.token_urlsafe(32)


@require_http_methods(["POST"])
def clients(request):
    key = new_key()
    client = Client.objects.create(name=json.loads(request.body)["name"], api_key=key)
    return JsonResponse({"id": client.id, "name": client.name, "api_key": key}, status=201)


def with_client(view):
    def checked(request):
        request.client = Client.for_key(request.headers.get("X-API-Key"))
        if request.client is None:
            return JsonResponse({"error": "missing or unknown API key"}, status=401)
        return view(request)

    return checked


@require_http_methods(["GET", "PUT"])
@with_client
def me(request):
    if request.method == "GET":
        return JsonResponse({"name": request.client.name})
    request.client.name = json.loads(request.body)["name"]
    request.client.save()
    return JsonResponse({})


@require_http_methods(["POST"])
@with_client
def my_key(request):
    key = request.client.api_key = new_key()
    request.client.save()
    return JsonResponse({"api_key": key})


urlpatterns = [path("clients", clients), path("me", me), path("me/key", my_key)]
