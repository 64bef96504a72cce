"""A Django site in one file, set up as a careful team sets up production: strict
ALLOWED_HOSTS, redirect to https, and trust in the load balancer's header."""
import os

from django.conf import settings

settings.configure(
    DEBUG=False,
    SECRET_KEY="test-only",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["www.example.com"],
    SECURE_SSL_REDIRECT=True,
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")
    if os.environ.get("TRUST_PROXY", "1") == "1"
    else None,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
)

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402


def boom(request):
    raise RuntimeError("boom")


urlpatterns = [
    path("", lambda request: HttpResponse("hello\n")),
    path("health/", lambda request: JsonResponse({"status": "ok"})),
    path("boom/", boom),
]
application = get_wsgi_application()
