"""Envelopes: the exact body and headers of one send, except the signature."""

from __future__ import annotations

import json
from urllib.parse import urlencode

from embarc import __version__
from embarc.core.deliveries import Claim
from embarc.core.hooks import ContentType, Endpoint, Hook
from embarc.core.ids import delivery_id

_CONTENT_TYPES = {
    ContentType.JSON: "application/json; charset=UTF-8",
    ContentType.FORM: "application/x-www-form-urlencoded",
}


def body_for(endpoint: Endpoint, payload: bytes) -> bytes:
    """The payload as it is, or its ids only, and as JSON or as a form: one field a key, scalars as text, `request` and
    `response` as JSON text."""
    if endpoint.is_thin:
        payload = thin(payload)
    return payload if endpoint.content_type is ContentType.JSON else _form(payload)


def thin(payload: bytes) -> bytes:
    """The payload without `request`, without the author's names, and with nothing but ids in `response`."""
    members = []
    for key, text in _top_level(payload.decode()):
        if key == "response":
            ids = [(name, value) for name, value in _top_level(text) if _is_id(name, value)]
            members.append((key, _object_text(ids)))
        elif key not in ("request", "createdByName", "createdByFullName"):
            members.append((key, text))
    return _object_text(members).encode()


def constant_lines(hook: Hook) -> list[str]:
    """The header lines that are the same in every send to this hook."""
    return [
        f"Content-Type: {_CONTENT_TYPES[hook.endpoint.content_type]}",
        f"User-Agent: Embarc/{__version__}",
        f"Fineract-Platform-TenantId: {hook.tenant}",
    ]


def delivery_lines(claim: Claim) -> list[str]:
    """The header lines that tell what is being delivered, for Embarc's receivers and for Fineract's."""
    kind = claim.kind
    lines = [
        f"X-Embarc-Event: {kind}",
        f"X-Embarc-Delivery: {delivery_id(claim.event_key, claim.hook_id)}",
        f"X-Embarc-Attempt: {claim.attempts + 1}",
        f"X-Fineract-Entity: {kind.entity_name}",
        f"X-Fineract-Action: {kind.action_name}",
    ]
    if claim.is_replay:
        lines.append("X-Embarc-Replay: 1")
    return lines


def _is_id(name: str, text: str) -> bool:
    return name.endswith(("Id", "Identifier")) and not text.startswith(("{", "["))


def _object_text(members: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{text}" for key, text in members) + "}"


def _form(payload: bytes) -> bytes:
    """Top-level values verbatim from the payload's text, so that no number changes its digits on the way."""
    fields = [
        (key, json.loads(text) if text.startswith('"') else text)
        for key, text in _top_level(payload.decode())
    ]
    return urlencode(fields).encode()


def _top_level(text: str) -> list[tuple[str, str]]:
    """The members of a JSON object as (key, text of the value), in order."""
    decoder = json.JSONDecoder()
    members: list[tuple[str, str]] = []
    position = _skip(text, text.index("{") + 1)
    while text[position] != "}":
        key, position = decoder.raw_decode(text, position)
        start = _skip(text, _skip(text, position) + 1)  # over the colon
        _, position = decoder.raw_decode(text, start)
        members.append((key, text[start:position]))
        position = _skip(text, position)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return members


def _skip(text: str, position: int) -> int:
    while text[position] in " \t\r\n":
        position += 1
    return position
