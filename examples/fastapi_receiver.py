"""A receiver on FastAPI: `EMBARC_SECRET=whsec_... uvicorn examples.fastapi_receiver:app --port 9001`."""

import os

from fastapi import FastAPI

from embarc.receiver import Deduplicator, Event, Receiver, SqliteLedger, Verified
from embarc.receiver.asgi import asgi_app
from embarc.receiver.kinds import Kind

app = FastAPI()
created: list[object] = []


async def handle(event: Event, webhook: Verified) -> None:
    """Do the work and commit it: the answer goes out after this returns."""
    if event.kind == Kind.CLIENT_CREATE:
        created.append(event.client_id)
        print(f"client {event.client_id} was created", flush=True)


ledger = SqliteLedger(os.environ.get("LEDGER", "received.db"))
receiver = Receiver(handle, os.environ["EMBARC_SECRET"].split(), deduplicator=Deduplicator(ledger))
app.mount("/webhooks", asgi_app(receiver))
