"""Hooks as Fineract spells them. Only here are `isActive`, date arrays and `resourceId` known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from embarc.core.catalogue import Catalogue, Entry, Firing
from embarc.core.deliveries import Traffic
from embarc.core.events import EventKind, timestamp_text
from embarc.core.hook_config import CONTENT_TYPE, FIELDS, SECRET, URL, masked, shown
from embarc.core.hooks import Hook
from embarc.engine.credentials import public_key
from embarc.engine.hooks import TEMPLATES
from embarc.engine.read import MOST_COUNTED, HookStats

_TEMPLATE_IDS = {"Web": 1, "Elastic Search": 3}
"""Fineract's own numbers."""


def hook(found: Hook, held_because: str) -> dict[str, Any]:
    """One hook. `templateId` is 0 as in Fineract for hooks without a text template."""
    if not found.is_active:  # the record knows it a moment before the hooks in memory do
        held_because = held_because or "the hook is not active"
    health: dict[str, Any] = {"sends": not held_because}
    if held_because:
        health["reason"] = found.inactive_because or held_because
    for name, since_ms in (
        ("failingSince", found.failing_since_ms),
        ("inactiveSince", found.inactive_since_ms),
    ):
        if since_ms is not None:
            health[name] = timestamp_text(since_ms)
    return {
        "id": found.id,
        "name": found.name,
        "displayName": found.display_name,
        "isActive": found.is_active,
        "isPaused": found.is_paused,
        "health": health,
        "createdAt": _date(found.created_at_ms),
        "updatedAt": _date(found.updated_at_ms),
        "templateId": 0,
        "events": events(found.subscriptions),
        "config": config(_with_masked_secrets(found)),
        **({"publicKey": public_key(found.signing_key)} if found.signing_key else {}),
    }


def hook_stats(found: HookStats) -> dict[str, Any]:
    """How it goes with a hook."""
    condition = found.condition
    waiting = {traffic.name.lower(): found.waiting.get(traffic, (0, 0))[0] for traffic in Traffic}
    counted = sum(waiting.values())
    rendered: dict[str, Any] = {
        "hookId": found.hook.id,
        "sends": not found.held_because,
        "reason": found.hook.inactive_because or found.held_because,
        "breaker": {"state": condition.breaker.value},
        "attemptsInFlight": condition.in_flight,
        "concurrency": condition.limit or found.hook.endpoint.concurrency,
        "waiting": {"total": counted, "isAtLeast": counted >= MOST_COUNTED, **waiting},
    }
    if condition.next_probe_seconds is not None:
        rendered["breaker"]["nextProbeSeconds"] = round(condition.next_probe_seconds, 1)
    if found.waiting:
        rendered["waiting"]["firstDueAt"] = timestamp_text(
            min(due_at for _, due_at in found.waiting.values())
        )
    if found.hook.failing_since_ms is not None:
        rendered["failingSince"] = timestamp_text(found.hook.failing_since_ms)
    return rendered


def audited_hook(found: Hook, fingerprint: Callable[[str], str]) -> str:
    """A hook for the audit log: of its secrets only whether they are the same."""
    secrets = {name: fingerprint(value) for name, value in found.credentials.items()}
    secrets |= {f"{SECRET} {place}": fingerprint(one.text) for place, one in enumerate(found.secrets, 1)}
    told = {
        "id": found.id,
        "name": found.name,
        "displayName": found.display_name,
        "isActive": found.is_active,
        "isPaused": found.is_paused,
        "events": events(found.subscriptions),
        "config": config(found.config),
        "fingerprints": secrets,
    }
    return msgspec.json.encode(told).decode()


def events(kinds: Iterable[EventKind]) -> list[dict[str, str]]:
    """Subscriptions."""
    return [{"actionName": kind.action_name, "entityName": kind.entity_name} for kind in kinds]


def config(values: Mapping[str, str]) -> list[dict[str, str]]:
    """The list form: `Content Type` first, `Payload URL` second (Fineract's web client reads by position), then by name."""
    names = [name for name in (CONTENT_TYPE, URL) if name in values]
    names += sorted(set(values) - set(names))
    return [{"fieldName": name, "fieldValue": values[name]} for name in names]


def changes(changed: Mapping[str, Any]) -> dict[str, Any]:
    """What a PUT changed."""
    rendered = dict(changed)
    if "events" in rendered:
        rendered["events"] = events(rendered["events"])
    if "config" in rendered:
        rendered["config"] = config(rendered["config"])
    return rendered


def templates(names: Iterable[str] = TEMPLATES) -> list[dict[str, Any]]:
    """The templates with their fields, both by name."""
    schema = [_schema_field(field.name, field.placeholder, required=field.required) for field in FIELDS]
    schema.sort(key=lambda one: one["fieldName"])
    return [{"id": _TEMPLATE_IDS[name], "name": name, "schema": schema} for name in names]


def catalogue_events(catalogue: Catalogue) -> list[dict[str, str]]:
    """The catalogue as a flat list; `fineract` stands where Fineract lists and emits different things."""
    return [
        {
            "entityName": entry.kind.entity_name,
            "actionName": entry.kind.action_name,
            "grouping": entry.grouping,
            **({"fineract": entry.firing.value} if entry.firing in (Firing.NEVER, Firing.UNLISTED) else {}),
        }
        for entry in catalogue.entries
    ]


def event_kind(entry: Entry) -> dict[str, Any]:
    """One kind of event, without its sample."""
    rendered: dict[str, Any] = {
        "kind": str(entry.kind),
        "entityName": entry.kind.entity_name,
        "actionName": entry.kind.action_name,
        "grouping": entry.grouping,
        "description": entry.text,
    }
    if entry.firing is not None:
        rendered["fineract"] = entry.firing.value
    if entry.fires_as is not None:
        rendered["firesAs"] = str(entry.fires_as)
    return rendered


def warnings(catalogue: Catalogue, subscriptions: Iterable[EventKind]) -> dict[str, Any]:
    """What is odd about subscriptions that are allowed; nothing where nothing is."""
    entries = [entry for kind in subscriptions if (entry := catalogue.get(kind)) is not None]
    told = [
        {
            "userMessageGlobalisationCode": "warning.msg.hook.event.never.fires",
            "defaultUserMessage": _never_fires(entry),
            "parameterName": "events",
            "value": str(entry.kind),
        }
        for entry in entries
        if entry.firing is Firing.NEVER
    ]
    return {"warnings": told} if told else {}


def _never_fires(entry: Entry) -> str:
    message = (
        f"Apache Fineract lists {entry.kind} and never emits it; it arrives only where another platform does."
    )
    return message + (f" Fineract emits {entry.fires_as} instead." if entry.fires_as else "")


def _schema_field(name: str, placeholder: str, *, required: bool) -> dict[str, Any]:
    return {"fieldName": name, "fieldType": "string", "optional": not required, "placeholder": placeholder}


def _with_masked_secrets(found: Hook) -> dict[str, str]:
    masked_values = {name: shown(name, value) for name, value in found.credentials.items()}
    if found.secrets:
        masked_values[SECRET] = masked(found.secrets[0].text)
    return {**found.config, **masked_values}


def _date(ms: int) -> list[int]:
    when = datetime.fromtimestamp(ms / 1000, UTC)
    return [when.year, when.month, when.day]
