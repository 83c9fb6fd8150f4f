"""A receiver on Flask: `EMBARC_SECRET=whsec_... flask --app examples.flask_receiver run --port 9002`."""

import os

from flask import Flask

from embarc.receiver import Deduplicator, Event, Receiver, SqliteLedger, Verified
from embarc.receiver.wsgi import flask_view

app = Flask(__name__)


def handle(event: Event, webhook: Verified) -> None:
    """Do the work and commit it: the answer goes out after this returns."""
    print(f"client {event.client_id} was created", flush=True)


ledger = SqliteLedger(os.environ.get("LEDGER", "received.db"))
receiver = Receiver(handle, os.environ["EMBARC_SECRET"].split(), deduplicator=Deduplicator(ledger))
app.add_url_rule("/webhooks", view_func=flask_view(receiver), methods=["POST"])
