"""A receiver on Django, in one file: `EMBARC_SECRET=whsec_... python examples/django_receiver.py 9003`."""

import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.urls import path

from embarc.receiver import Deduplicator, Event, Receiver, SqliteLedger, Verified
from embarc.receiver.wsgi import django_view

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"], ROOT_URLCONF=__name__, SECRET_KEY=os.urandom(20).hex()
)


def handle(event: Event, webhook: Verified) -> None:
    """Do the work and commit it: the answer goes out after this returns."""
    print(f"client {event.client_id} was created", flush=True)


ledger = SqliteLedger(os.environ.get("LEDGER", "received.db"))
receiver = Receiver(handle, os.environ["EMBARC_SECRET"].split(), deduplicator=Deduplicator(ledger))
urlpatterns = [path("webhooks", django_view(receiver))]

if __name__ == "__main__":
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", f"127.0.0.1:{sys.argv[1]}"])
