"""`/eventkinds`: every kind of event, and how a platform brings its own words."""

from __future__ import annotations

from typing import Any

import msgspec

from embarc.api import wire
from embarc.core.catalogue import Entry
from embarc.core.events import EventKind
from embarc.core.fields import Fields
from embarc.engine.kinds import DEFAULT_GROUPING, Kinds
from embarc.web import strict_json
from embarc.web.routes import Call, Route

_FIELDS = ("entityName", "actionName", "grouping", "description", "samplePayload")
_LONGEST_SAMPLE = 64 * 1024
_EXAMPLE = {
    "entityName": "CARD",
    "actionName": "OPEN",
    "grouping": "cards",
    "description": "A card was opened.",
    "samplePayload": {"entityName": "CARD", "actionName": "OPEN", "response": {"resourceId": 1}},
}
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def routes(kinds: Kinds) -> list[Route]:
    """The routes of event kinds."""

    async def list_kinds(call: Call) -> list[dict[str, Any]]:
        catalogue = await kinds.catalogue(call.caller.tenant)
        return [wire.event_kind(entry) for entry in catalogue.entries]

    async def get(call: Call) -> dict[str, Any]:
        entry = await kinds.get(call.caller.tenant, call.path["kind"])
        return wire.event_kind(entry) | {"samplePayload": msgspec.Raw(entry.sample_payload)}

    async def declare(call: Call) -> dict[str, Any]:
        entry = _entry(call)
        await kinds.declare(call.caller.tenant, entry)
        call.notes.update(
            resource_id=str(entry.kind), after=msgspec.json.encode(wire.event_kind(entry)).decode()
        )
        return {"resourceIdentifier": str(entry.kind)}

    return [
        Route(
            method="GET",
            path="/eventkinds",
            handler=list_kinds,
            permission="READ_EVENTKIND",
            summary="Every kind of event; `fineract` tells whether Apache Fineract lists and emits it",
            tag="event kinds",
        ),
        Route(
            method="POST",
            path="/eventkinds",
            handler=declare,
            permission="CREATE_EVENTKIND",
            summary="Add a kind of your own, or replace what was said about it",
            tag="event kinds",
            body=_EXAMPLE,
        ),
        Route(
            method="GET",
            path="/eventkinds/{kind}",
            handler=get,
            permission="READ_EVENTKIND",
            summary="One kind, written `CLIENT.CREATE`, with a sample payload",
            tag="event kinds",
        ),
    ]


def _entry(call: Call) -> Entry:
    fields = call.fields("eventkind", _FIELDS)
    names = [_name(fields, parameter) for parameter in ("entityName", "actionName")]
    grouping = fields.text("grouping", longest=100) or DEFAULT_GROUPING
    description = fields.text("description", longest=1000) or ""
    sample = b""
    if "samplePayload" in fields:
        # From the text, so that its numbers keep their digits.
        sample = bytes(_decode_members(strict_json.check(call.body))["samplePayload"])
        if not sample.startswith(b"{") or len(sample) > _LONGEST_SAMPLE:
            message = f"The parameter `samplePayload` must be an object of at most {_LONGEST_SAMPLE} bytes."
            fields.fail("samplePayload", "invalid", message)
    fields.check()
    return Entry(EventKind(*names), grouping, description, sample)


def _name(fields: Fields, parameter: str) -> str:
    name = fields.text(parameter, required=True) or ""
    if name and not EventKind.is_name(name):
        message = f"The parameter `{parameter}` must be a name of 1 to 100 letters, digits, `_`, `-`, `.` or spaces."
        fields.fail(parameter, "invalid", message, name[:100])
    return name
