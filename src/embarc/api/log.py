"""Events and deliveries, read back: `GET /events`, `GET /deliveries` and what stands behind each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from embarc.core.attempts import Attempt
from embarc.core.deliveries import HELD, State
from embarc.core.errors import Invalid
from embarc.core.events import timestamp_text
from embarc.core.fields import moment_ms, nearest
from embarc.core.ids import delivery_id, event_id
from embarc.engine.read import DeliveryView, Reader
from embarc.engine.replay import Replayer
from embarc.store.base import PAGE_LIMIT, DeliveryFilter, EventFilter, EventRecord
from embarc.web.routes import Call, Route, unsupported_command

_DEFAULT_LIMIT = 50
_PAGING = (
    ("cursor", "`nextCursor` of the page before"),
    ("limit", f"rows of a page, 1 to {PAGE_LIMIT} (50)"),
)
_KIND = (
    ("entityName", "only of this entity"),
    ("actionName", "only of this action"),
    ("entityId", "only of the entity with this id"),
    ("since", "accepted at or after this time (ISO 8601)"),
    ("until", "accepted before this time (ISO 8601)"),
)
_STATES = [state.value for state in State]


def routes(reader: Reader, replayer: Replayer) -> list[Route]:
    """The routes of the log."""

    async def list_events(call: Call) -> dict[str, Any]:
        _only(call, _KIND + _PAGING)
        query = call.query
        which = EventFilter(
            entity_name=query.get("entityName"),
            action_name=query.get("actionName"),
            entity_id=query.get("entityId"),
            since_ms=_time(call, "since"),
            until_ms=_time(call, "until"),
        )
        found, following = await reader.events(call.caller.tenant, which, query.get("cursor"), _limit(call))
        return {"pageItems": [_event(record) for record in found], "nextCursor": following}

    async def get_event(call: Call) -> dict[str, Any]:
        story = await reader.event(call.caller.tenant, call.path["eventId"])
        return _event(story.record) | {"deliveries": [_delivery(view) for view in story.deliveries]}

    async def list_deliveries(call: Call) -> dict[str, Any]:
        _only(call, _DELIVERY_QUERY)
        query = call.query
        hook = query.get("hookId")
        which = DeliveryFilter(
            state=_state(query.get("state")),
            hook_id=None if hook is None else _number("hookId", hook),
            entity_name=query.get("entityName"),
            action_name=query.get("actionName"),
            entity_id=query.get("entityId"),
            since_ms=_time(call, "since"),
            until_ms=_time(call, "until"),
        )
        found, following = await reader.deliveries(
            call.caller.tenant, which, query.get("cursor"), _limit(call)
        )
        return {"pageItems": [_delivery(view) for view in found], "nextCursor": following}

    async def get_delivery(call: Call) -> dict[str, Any]:
        view, attempts = await reader.delivery(call.caller.tenant, call.path["deliveryId"])
        return _delivery(view) | {"attempts": [render_attempt(attempt) for attempt in attempts]}

    async def command(call: Call) -> dict[str, Any]:
        identifier = call.path["deliveryId"]
        match call.query.get("command"):
            case "replay":
                await replayer.replay(call.caller.tenant, identifier)
            case "cancel":
                await replayer.cancel(call.caller.tenant, identifier, call.caller.username)
            case _:
                raise unsupported_command(call, ("replay", "cancel"))
        return {"resourceIdentifier": identifier}

    return [
        Route(
            method="GET",
            path="/events",
            handler=list_events,
            permission="READ_EVENT",
            summary="List events, newest first",
            tag="events",
            query=_KIND + _PAGING,
        ),
        Route(
            method="GET",
            path="/events/{eventId}",
            handler=get_event,
            permission="READ_EVENT",
            summary="One event with its deliveries",
            tag="events",
        ),
        Route(
            method="GET",
            path="/deliveries",
            handler=list_deliveries,
            permission="READ_DELIVERY",
            summary="List deliveries, newest event first",
            tag="deliveries",
            query=_DELIVERY_QUERY,
        ),
        Route(
            method="GET",
            path="/deliveries/{deliveryId}",
            handler=get_delivery,
            permission="READ_DELIVERY",
            summary="One delivery with its attempts",
            tag="deliveries",
        ),
        Route(
            method="POST",
            path="/deliveries/{deliveryId}",
            handler=command,
            permission="UPDATE_DELIVERY",
            summary="Commands: replay sends it again, cancel gives it up",
            tag="deliveries",
            query=(("command", "replay, cancel"),),
        ),
    ]


_DELIVERY_QUERY = (("state", ", ".join(_STATES)), ("hookId", "only of this hook"), *_KIND, *_PAGING)


def _event(record: EventRecord) -> dict[str, Any]:
    event = record.event
    return {
        "id": event_id(event.key),
        "entityName": event.kind.entity_name,
        "actionName": event.kind.action_name,
        "entityId": event.entity_id,
        "acceptedAt": timestamp_text(record.accepted_at_ms),
        "payload": msgspec.Raw(event.payload),
    }


def _delivery(view: DeliveryView) -> dict[str, Any]:
    record = view.record
    rendered: dict[str, Any] = {
        "id": delivery_id(record.event_key, record.hook_id),
        "eventId": event_id(record.event_key),
        "hookId": record.hook_id,
        "entityName": record.kind.entity_name,
        "actionName": record.kind.action_name,
        "entityId": record.entity_id,
        "state": view.standing,
        "reason": view.held_because or record.reason,
        "attemptCount": record.attempts,
        "failures": record.failures,
        "acceptedAt": timestamp_text(record.accepted_at_ms),
        "isReplay": record.is_replay,
    }
    if record.due_at_ms is not None and view.standing != HELD:
        rendered["dueAt"] = timestamp_text(record.due_at_ms)
    if record.settled_at_ms is not None:
        rendered["settledAt"] = timestamp_text(record.settled_at_ms)
    return rendered


def render_attempt(attempt: Attempt) -> dict[str, Any]:
    """One attempt, with what the receiver answered."""
    outcome = attempt.outcome
    return {
        "number": attempt.number,
        "startedAt": timestamp_text(attempt.started_at_ms),
        "url": attempt.url,
        "worker": attempt.worker,
        "result": outcome.result.value,
        "meaning": outcome.result.meaning,
        "detail": outcome.detail,
        "status": outcome.status,
        "durationMs": round(outcome.duration_ms, 3),
        "phasesMs": dict(outcome.phases_ms),
        "responseHeaders": [{"name": name, "value": value} for name, value in outcome.headers],
        "responseBody": outcome.body.decode("utf-8", "replace"),
    }


def _only(call: Call, known: Sequence[tuple[str, str]]) -> None:
    names = [name for name, _ in known]
    for name in call.query:
        if name not in names and name != "tenantIdentifier":
            near = nearest(name, names)
            raise Invalid.field(
                name,
                "error.msg.parameter.unsupported",
                f"The parameter {name} is not supported." + (f" Did you mean {near}?" if near else ""),
            )


def _limit(call: Call) -> int:
    text = call.query.get("limit")
    return _DEFAULT_LIMIT if text is None else _number("limit", text, at_most=PAGE_LIMIT)


def _number(name: str, text: str, at_most: int = 2**63 - 1) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
    if not 1 <= number <= at_most:
        words = f"between 1 and {at_most}" if at_most <= PAGE_LIMIT else "above 0"
        raise Invalid.field(
            name,
            f"validation.msg.query.{name}.invalid",
            f"The parameter `{name}` must be a whole number {words}.",
            text[:50],
        )
    return number


def _state(text: str | None) -> State | None:
    if text is None:
        return None
    if text not in _STATES:
        raise Invalid.field(
            "state",
            "error.msg.query.parameter.value.unsupported",
            f"The query parameter state has an unsupported value of: {text[:50]}. There are: {', '.join(_STATES)}.",
            text[:50],
        )
    return State(text)


def _time(call: Call, name: str) -> int | None:
    text = call.query.get(name)
    if text is None:
        return None
    try:
        return moment_ms(text.replace(" ", "+"))  # an unescaped + of an offset arrives as a blank
    except ValueError:
        raise Invalid.field(
            name,
            f"validation.msg.query.{name}.invalid",
            f"The parameter `{name}` must be a time in ISO 8601, such as 2025-10-13T07:45:12Z.",
            text[:50],
        ) from None
