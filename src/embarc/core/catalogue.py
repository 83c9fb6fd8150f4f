"""The catalogue: every kind of event that a hook can ask for.

It starts with Fineract's own (its permission table, grouped as Fineract groups it) and knows besides them the
commands that Fineract emits without listing, and the events that Embarc tells about hooks themselves.
"""

from __future__ import annotations

import difflib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from embarc.core.events import ANY, EventKind

OPERATIONAL_GROUPING = "embarc"
OPERATIONAL = tuple(EventKind("HOOK", action) for action in ("DISABLED", "FAILING", "RECOVERED"))


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind and the group it is shown in."""

    kind: EventKind
    grouping: str


class Catalogue:
    """The known kinds."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries: Sequence[Entry] = sorted(
            entries, key=lambda entry: (entry.grouping, entry.kind.entity_name, entry.kind.action_name)
        )
        self._kinds = {entry.kind for entry in self.entries}
        self._actions: dict[str, set[str]] = defaultdict(set)
        for kind in self._kinds:
            self._actions[kind.entity_name].add(kind.action_name)
        self._all_actions = {kind.action_name for kind in self._kinds}

    def knows(self, kind: EventKind) -> bool:
        """Whether events of this kind exist."""
        return kind in self._kinds

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
            found = _nearest(str(kind), [str(one) for one in self._kinds])
            return EventKind(*found.split(".", 1)) if found else None
        action = _nearest(kind.action_name, self._actions[entity])
        return EventKind(entity, action or min(self._actions[entity]))

    def groupings(self) -> list[dict[str, Any]]:
        """Grouping, entity, actions: the tree as Fineract answers it."""
        tree: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for entry in self.entries:
            tree[entry.grouping][entry.kind.entity_name].append(entry.kind.action_name)
        return [
            {
                "name": name,
                "entities": [{"name": entity, "actions": actions} for entity, actions in entities.items()],
            }
            for name, entities in tree.items()
        ]


def load_catalogue() -> Catalogue:
    """The catalogue that ships with Embarc."""
    text = files("embarc.data").joinpath("event_catalogue.json").read_text(encoding="utf-8")
    entries = [
        Entry(EventKind(event["entityName"], event["actionName"]), group["grouping"])
        for group in json.loads(text)
        for event in group["events"]
    ]
    return Catalogue([*entries, *(Entry(kind, OPERATIONAL_GROUPING) for kind in OPERATIONAL)])


def _nearest(name: str, known: Iterable[str]) -> str | None:
    by_folded = {candidate.upper(): candidate for candidate in known}
    if name.upper() in by_folded:
        return by_folded[name.upper()]
    found = difflib.get_close_matches(name.upper(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None
