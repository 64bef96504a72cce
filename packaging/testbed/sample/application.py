"""A one-file Django site, set up as a production site is: it answers 400 to a
Host it does not know and 301 to what did not come over HTTPS."""
import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path

settings.configure(
    DEBUG=False,
    SECRET_KEY="of the sample only",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=os.environ.get("ALLOWED_HOSTS", "www.example.com").split(","),
    SECURE_SSL_REDIRECT=True,
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
)


def index(request):
    return HttpResponse("version %s\n" % open("VERSION").read().strip())


def health(request):
    return JsonResponse({"status": "ok", "secure": request.is_secure()})


urlpatterns = [path("", index), path("health", health), path("slashed/", health)]
application = get_wsgi_application()
