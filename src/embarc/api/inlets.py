"""`/inlets`: the doors for an Apache Fineract, each with a secret that is shown once."""

from __future__ import annotations

from typing import Any

import msgspec

from embarc.core.errors import Forbidden
from embarc.core.events import timestamp_text
from embarc.core.inlets import Inlet
from embarc.engine.inlets import Inlets
from embarc.web.routes import Call, Route

_EMITS = "CREATE_EVENT"


def routes(inlets: Inlets, address: str) -> list[Route]:
    """The routes of inlets; `address` is where an inlet answers, with `{secret}` in it."""

    async def list_inlets(call: Call) -> list[dict[str, Any]]:
        return [_render(inlet) for inlet in await inlets.list(call.caller.tenant)]

    async def create(call: Call) -> dict[str, Any]:
        if not call.caller.may(_EMITS):
            raise Forbidden(f"An inlet lets events in: making one needs the permission {_EMITS} too.")
        fields = call.fields("inlet", ("name", "forwardFailures"))
        name = fields.text("name", required=True, longest=100)
        forwards_failures = fields.boolean("forwardFailures", default=False)
        fields.check()
        inlet, secret = await inlets.create(
            call.caller.tenant,
            name or "",
            forwards_failures=bool(forwards_failures),
            created_by=call.caller.username,
        )
        call.notes.update(resource_id=str(inlet.id), after=msgspec.json.encode(_render(inlet)).decode())
        return {"resourceId": inlet.id, "secret": secret, "path": address.replace("{secret}", secret) + "/"}

    async def revoke(call: Call) -> dict[str, Any]:
        await inlets.revoke(call.caller.tenant, call.path["inletId"])
        return {"resourceId": int(call.path["inletId"])}

    return [
        Route(
            method="GET",
            path="/inlets",
            handler=list_inlets,
            permission="READ_INLET",
            summary="The tenant's inlets",
            tag="inlets",
        ),
        Route(
            method="POST",
            path="/inlets",
            handler=create,
            permission="CREATE_INLET",
            summary="Make an inlet for an Apache Fineract; its secret, and the path for Fineract's hook, are shown this once",
            tag="inlets",
            body={"name": "core-banking", "forwardFailures": False},
        ),
        Route(
            method="DELETE",
            path="/inlets/{inletId}",
            handler=revoke,
            permission="DELETE_INLET",
            summary="Revoke an inlet at once",
            tag="inlets",
        ),
    ]


def _render(inlet: Inlet) -> dict[str, Any]:
    return {
        "id": inlet.id,
        "name": inlet.name,
        "forwardFailures": inlet.forwards_failures,
        "createdBy": inlet.created_by,
        "createdAt": timestamp_text(inlet.created_at_ms),
    }
