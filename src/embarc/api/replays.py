"""`/replays`: sending again what a selection describes, as a job with progress."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from embarc.core.deliveries import State
from embarc.core.errors import Invalid
from embarc.core.events import ANY, EventKind, timestamp_text
from embarc.core.fields import Fields
from embarc.core.ids import replay_id
from embarc.core.replays import ENDED, ReplayJob, ReplayState, Selection
from embarc.engine.replays import Replays
from embarc.web.routes import Call, Route, unsupported_command

MISSING = "missing"
_STATES = (*(state.value for state in ENDED), MISSING)
_DEFAULT_STATES = (State.EXHAUSTED.value, MISSING)
_NAMES = ("hookId", "events", "entityId", "since", "until", "states", "preview")
_MOST_KINDS = 100

EXAMPLE = {
    "hookId": 1,
    "events": [{"entityName": "LOAN", "actionName": "*"}],
    "since": "2025-10-13T00:00:00Z",
    "states": ["exhausted", MISSING],
    "preview": True,
}


def routes(replays: Replays) -> list[Route]:
    """The routes of replays."""

    async def create(call: Call) -> dict[str, Any]:
        fields = call.fields("replay", _NAMES)
        selection = _selection(fields)
        wants_preview = fields.boolean("preview", default=call.query.get("preview", "").lower() == "true")
        fields.check()
        if wants_preview:
            call.notes["skip"] = True
            return {"preview": True, "count": await replays.preview(call.caller.tenant, selection)}
        job = render(await replays.create(call.caller.tenant, selection, call.caller.username))
        call.notes.update(resource_id=job["id"], after=msgspec.json.encode(job["selection"]).decode())
        return job

    async def list_replays(call: Call) -> dict[str, Any]:
        return {"pageItems": [render(job) for job in await replays.list(call.caller.tenant)]}

    async def get(call: Call) -> dict[str, Any]:
        return render(await replays.get(call.caller.tenant, call.path["replayId"]))

    async def command(call: Call) -> dict[str, Any]:
        if call.query.get("command") != "cancel":
            raise unsupported_command(call, ("cancel",))
        await replays.cancel(call.caller.tenant, call.path["replayId"])
        return {"resourceIdentifier": call.path["replayId"]}

    return [
        Route(
            method="POST",
            path="/replays",
            handler=create,
            permission="CREATE_REPLAY",
            summary="Send again what the selection describes, also events without a delivery; `preview` only counts",
            tag="replays",
            body=EXAMPLE,
            query=(("preview", "`true` counts and changes nothing"),),
        ),
        Route(
            method="GET",
            path="/replays",
            handler=list_replays,
            permission="READ_REPLAY",
            summary="The newest replays",
            tag="replays",
        ),
        Route(
            method="GET",
            path="/replays/{replayId}",
            handler=get,
            permission="READ_REPLAY",
            summary="One replay and how far it has come",
            tag="replays",
        ),
        Route(
            method="POST",
            path="/replays/{replayId}",
            handler=command,
            permission="CREATE_REPLAY",
            summary="Commands: cancel ends it; what it has queued stays",
            tag="replays",
            query=(("command", "cancel"),),
        ),
    ]


def render(job: ReplayJob) -> dict[str, Any]:
    """A job with its progress: `queued` deliveries were made due, from events accepted up to `reachedAt`."""
    selection = job.selection
    reached_ms = max(int.from_bytes(job.reached[:6]), selection.since_ms)
    if job.state is ReplayState.FINISHED:
        reached_ms = selection.until_ms
    rendered: dict[str, Any] = {
        "id": replay_id(job.key),
        "state": job.state.value,
        "queued": job.queued,
        "reachedAt": timestamp_text(reached_ms),
        "selection": body_of(selection),
        "createdBy": job.created_by,
        "createdAt": timestamp_text(job.created_at_ms),
    }
    if job.finished_at_ms is not None:
        rendered["finishedAt"] = timestamp_text(job.finished_at_ms)
    return rendered


def body_of(selection: Selection) -> dict[str, Any]:
    """The selection as a request would give it."""
    states = [state.value for state in selection.states] + ([MISSING] if selection.missing else [])
    body: dict[str, Any] = {
        "hookId": selection.hook_id,
        "since": timestamp_text(selection.since_ms),
        "until": timestamp_text(selection.until_ms),
        "states": states,
    }
    if selection.kinds:
        body["events"] = [
            {"entityName": kind.entity_name, "actionName": kind.action_name} for kind in selection.kinds
        ]
    if selection.entity_id is not None:
        body["entityId"] = selection.entity_id
    return body


def _selection(fields: Fields) -> Selection:
    hook_id = fields.integer("hookId", required=True, at_least=1)
    entity_id = fields.text("entityId", longest=200)
    since_ms, until_ms = fields.moment("since"), fields.moment("until")
    states = _states(fields)
    kinds = _kinds(fields)
    fields.check()
    now_ms = int(time.time() * 1000) + 1  # what is accepted from now on is not meant
    until_ms = now_ms if until_ms is None else min(until_ms, now_ms)
    if (since_ms or 0) >= until_ms:
        raise Invalid.field(
            "since",
            "validation.msg.replay.since.not.before.until",
            "`since` must be before `until` and before now.",
        )
    return Selection(
        hook_id=hook_id or 0,
        kinds=kinds,
        entity_id=entity_id,
        since_ms=max(since_ms or 0, 0),
        until_ms=until_ms,
        states=tuple(State(state) for state in states if state != MISSING),
        missing=MISSING in states,
    )


def _states(fields: Fields) -> Sequence[str]:
    given = fields.body.get("states", _DEFAULT_STATES)
    if not isinstance(given, list | tuple) or not given or any(state not in _STATES for state in given):
        fields.fail(
            "states", "invalid", f"The parameter `states` must name at least one of: {', '.join(_STATES)}."
        )
        return ()
    return given


def _kinds(fields: Fields) -> tuple[EventKind, ...]:
    given = fields.body.get("events", [])
    kinds = []
    for one in given if isinstance(given, list) and len(given) <= _MOST_KINDS else [None]:
        kind = _kind(one)
        if kind is None:
            fields.fail(
                "events",
                "invalid",
                f"The parameter `events` must be a list of at most {_MOST_KINDS} {{entityName, actionName}}; either may be `*`.",
            )
            return ()
        kinds.append(kind)
    return tuple(kinds)


def _kind(given: Any) -> EventKind | None:
    if not isinstance(given, dict) or given.keys() != {"entityName", "actionName"}:
        return None
    entity, action = given["entityName"], given["actionName"]
    if all(isinstance(name, str) and (name == ANY or EventKind.is_name(name)) for name in (entity, action)):
        return EventKind(entity, action)
    return None
