"""The catalogue: every kind of event that a hook can ask for.

It starts with Fineract's own (its permission table, grouped as Fineract groups it) and knows besides them the
commands that Fineract emits without listing, and the events that Embarc tells about hooks themselves. A tenant's
own kinds are added to it.
"""

from __future__ import annotations

import difflib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files
from typing import Any

from embarc.core.events import ANY, PAYLOAD_IDS, Author, EventKind, compose_payload, own_id_of

OPERATIONAL_GROUPING = "embarc"
OPERATIONAL = tuple(EventKind("HOOK", action) for action in ("DISABLED", "FAILING", "RECOVERED"))

_SAMPLE_AUTHOR = Author(user_id=12, username="john.doe", full_name="John Doe")
_SAMPLE_MS = 1_760_341_512_001  # 2025-10-13T07:45:12.001Z
_SAMPLE_ID = 9876


class Firing(StrEnum):
    """How Apache Fineract stands to a kind: what it lists and what it emits are not the same."""

    LISTED = "listed"
    NEVER = "never-fires"
    UNLISTED = "unlisted"

    @property
    def meaning(self) -> str:
        """For people."""
        return _MEANINGS[self]


_MEANINGS = {
    Firing.LISTED: "Fineract lists it and emits it.",
    Firing.NEVER: "Fineract lists it and never emits it under this name.",
    Firing.UNLISTED: "Fineract emits it and does not list it.",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind, the group it is shown in, and what is known about it."""

    kind: EventKind
    grouping: str
    description: str = ""
    sample: bytes = field(default=b"", repr=False)
    """A payload in JSON; empty: one is made up from the kind."""
    firing: Firing | None = None
    """None: no kind of Fineract's."""
    fires_as: EventKind | None = None
    """The kind that Fineract emits instead of one that never fires, where there is one."""

    @property
    def text(self) -> str:
        """The description, made up where there is none."""
        return self.description or f"The action {self.kind.action_name} of {self.kind.entity_name} was done."

    @property
    def sample_payload(self) -> bytes:
        """A payload of this kind in JSON."""
        return self.sample or sample_payload(self.kind)


class Catalogue:
    """The known kinds."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries: Sequence[Entry] = sorted(
            entries, key=lambda entry: (entry.grouping, entry.kind.entity_name, entry.kind.action_name)
        )
        self._by_kind = {entry.kind: entry for entry in self.entries}
        self._by_name = {str(entry.kind): entry for entry in self.entries}
        self._actions: dict[str, set[str]] = defaultdict(set)
        for kind in self._by_kind:
            self._actions[kind.entity_name].add(kind.action_name)
        self._all_actions = {kind.action_name for kind in self._by_kind}

    def knows(self, kind: EventKind) -> bool:
        """Whether events of this kind exist."""
        return kind in self._by_kind

    def get(self, kind: EventKind) -> Entry | None:
        """What is known about this kind."""
        return self._by_kind.get(kind)

    def named(self, name: str) -> Entry | None:
        """The entry of a kind as it is written, `CLIENT.CREATE`."""
        return self._by_name.get(name)

    def can_subscribe(self, kind: EventKind) -> bool:
        """Whether a subscription to this kind, in which either part may be `*`, can ever be met."""
        if kind.entity_name == ANY:
            return kind.action_name == ANY or kind.action_name in self._all_actions
        if kind.action_name == ANY:
            return kind.entity_name in self._actions
        return self.knows(kind)

    def nearest(self, kind: EventKind) -> EventKind | None:
        """The kind that was probably meant, or None where nothing is near."""
        entity = _nearest(kind.entity_name, self._actions)
        if entity is None:
            found = _nearest(str(kind), self._by_name)
            return self._by_name[found].kind if found else None
        action = _nearest(kind.action_name, self._actions[entity])
        return EventKind(entity, action or min(self._actions[entity]))

    def groupings(self) -> list[dict[str, Any]]:
        """Grouping, entity, actions: the tree as Fineract answers it, with what is odd about an action beside it."""
        tree: dict[str, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
        for entry in self.entries:
            tree[entry.grouping][entry.kind.entity_name].append(entry)
        return [
            {"name": name, "entities": [_entity(entity, found) for entity, found in entities.items()]}
            for name, entities in tree.items()
        ]


def load_catalogue() -> Catalogue:
    """The catalogue that ships with Embarc."""
    notes = json.loads(_data("event_notes.json"))
    never: dict[str, str] = notes["neverFires"]
    described: dict[str, dict[str, Any]] = notes["described"]
    listed = [
        (EventKind(event["entityName"], event["actionName"]), group["grouping"])
        for group in json.loads(_data("event_catalogue.json"))
        for event in group["events"]
    ]
    entries = [
        _entry(kind, grouping, described, Firing.NEVER if str(kind) in never else Firing.LISTED, never)
        for kind, grouping in listed
    ]
    entries += [
        _entry(_kind(name), grouping, described, Firing.UNLISTED, never)
        for grouping, names in notes["unlisted"].items()
        for name in names
    ]
    return Catalogue([*entries, *(_entry(kind, OPERATIONAL_GROUPING, described) for kind in OPERATIONAL)])


def sample_payload(
    kind: EventKind,
    ids: Mapping[str, int | str] | None = None,
    request: Mapping[str, Any] | None = None,
    response: Mapping[str, Any] | None = None,
) -> bytes:
    """A payload as an event of this kind has it; what is not given is made up from the kind."""
    if response is None:
        own = own_id_of(kind)
        ids = ids or ({"officeId": 3} | ({own: _SAMPLE_ID} if own else {}))
        response = {name: ids[name] for name in PAYLOAD_IDS if name in ids} | {"resourceId": _SAMPLE_ID}
    return compose_payload(
        kind, _SAMPLE_AUTHOR, ids or {}, _SAMPLE_MS, _json(request or {}), _json(response or {})
    )


def _entry(
    kind: EventKind,
    grouping: str,
    described: Mapping[str, Mapping[str, Any]],
    firing: Firing | None = None,
    never: Mapping[str, str] | None = None,
) -> Entry:
    told = described.get(str(kind), {})
    sample = b""
    if "response" in told:
        sample = sample_payload(kind, told.get("ids"), told.get("request"), told["response"])
    instead = (never or {}).get(str(kind))
    return Entry(
        kind, grouping, told.get("description", ""), sample, firing, _kind(instead) if instead else None
    )


def _entity(name: str, entries: Iterable[Entry]) -> dict[str, Any]:
    rendered: dict[str, Any] = {"name": name, "actions": [entry.kind.action_name for entry in entries]}
    for key, firing in (("neverFires", Firing.NEVER), ("unlisted", Firing.UNLISTED)):
        if odd := [entry.kind.action_name for entry in entries if entry.firing is firing]:
            rendered[key] = odd
    return rendered


def _kind(name: str) -> EventKind:
    entity, _, action = name.partition(".")
    return EventKind(entity, action)


def _data(name: str) -> str:
    return files("embarc.data").joinpath(name).read_text(encoding="utf-8")


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _nearest(name: str, known: Iterable[str]) -> str | None:
    # `client` is an entity of Fineract's too, and hardly ever meant: of two that differ in case the capitals win.
    by_folded = {candidate.upper(): candidate for candidate in sorted(known, reverse=True)}
    if name.upper() in by_folded:
        return by_folded[name.upper()]
    found = difflib.get_close_matches(name.upper(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None
