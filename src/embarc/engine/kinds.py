"""Kinds of event: the catalogue that ships with Embarc, and what each tenant has added to it."""

from __future__ import annotations

from collections.abc import Sequence

from embarc.core.catalogue import Catalogue, Entry
from embarc.core.errors import Duplicate, Invalid, NotFound
from embarc.core.events import EventKind
from embarc.core.masking import mask
from embarc.observe import Observe
from embarc.store.base import Store

DEFAULT_GROUPING = "platform"
MOST_OWN = 10_000
"""Own kinds of a tenant: whoever makes a new one with each event has misunderstood what a kind is."""
_REMEMBER = 10_000


class Kinds:
    """Knows which kinds there are. A kind is never taken away, so what was known once may be remembered."""

    def __init__(self, store: Store, shipped: Catalogue, *, observe: Observe, is_open: bool) -> None:
        self._store = store
        self._shipped = shipped
        self._observe = observe
        self.is_open = is_open
        self._known: dict[tuple[str, str, str], EventKind] = {}
        self._merged: dict[str, tuple[Sequence[Entry], Catalogue]] = {}

    async def catalogue(self, tenant: str) -> Catalogue:
        """Everything that the tenant's hooks can ask for."""
        own = await self._store.list_kinds(tenant)
        if not own:
            return self._shipped
        merged = self._merged.get(tenant)
        if merged is None or merged[0] != own:
            # A later version may ship what a tenant has added before: then the shipped one counts.
            added = [entry for entry in own if not self._shipped.knows(entry.kind)]
            merged = self._merged[tenant] = (own, Catalogue([*self._shipped.entries, *added]))
        return merged[1]

    async def get(self, tenant: str, name: str) -> Entry:
        """The kind that is written like this, `CLIENT.CREATE`; raises `NotFound`."""
        entry = (await self.catalogue(tenant)).named(name)
        if entry is None:
            message = f"Event kind with identifier `{name[:200]}` does not exist"
            raise NotFound.resource("error.msg.eventkind.identifier.not.found", message, name[:200])
        return entry

    def known(self, tenant: str, entity_name: str, action_name: str) -> EventKind | None:
        """The kind, where events of it were accepted not long ago; None means `admit` has to look."""
        return self._known.get((tenant, entity_name, action_name))

    async def admit(self, tenant: str, kind: EventKind) -> EventKind:
        """The kind of an event on its way in: known, or added at once where the catalogue is open.

        Raises `Invalid`, naming the nearest.
        """
        if self.known(tenant, *kind) is not None:
            return kind
        if not self._shipped.knows(kind) and not self.is_open:
            catalogue = await self.catalogue(tenant)
            if not catalogue.knows(kind):
                near = catalogue.nearest(kind)
                raise Invalid.field(
                    "entityName",
                    "validation.msg.event.kind.unknown",
                    f"There is no event {kind}." + (f" Did you mean {near}?" if near else ""),
                    str(kind),
                )
        return await self.learn(tenant, kind, DEFAULT_GROUPING)

    async def learn(self, tenant: str, kind: EventKind, grouping: str) -> EventKind:
        """Add a kind that an event was published of, unless it is known or there are too many already."""
        found = self.known(tenant, *kind)
        if found is not None:
            return found
        if not self._shipped.knows(kind):
            own = await self._store.list_kinds(tenant)
            is_new = all(entry.kind != kind for entry in own) and len(own) < MOST_OWN
            if is_new and await self._store.add_kind(tenant, Entry(kind, grouping)):
                self._observe("kind.added", tenant=tenant, kind=str(kind))
        if len(self._known) < _REMEMBER:
            self._known[tenant, kind.entity_name, kind.action_name] = kind
        return kind

    async def declare(self, tenant: str, entry: Entry) -> None:
        """Add a kind of the tenant's own, or tell more about one: declaring it again replaces what was said.

        Raises `Duplicate` for a kind that ships with Embarc, `Invalid` where there are too many.
        """
        clash = (await self.catalogue(tenant)).named(str(entry.kind))
        if clash is not None and (self._shipped.knows(clash.kind) or clash.kind != entry.kind):
            message = f"There is an event {entry.kind} already, and it is not one of your own."
            raise Duplicate(message, code="error.msg.eventkind.duplicate")
        entry = Entry(entry.kind, entry.grouping, entry.description, mask(entry.sample))
        if clash is not None:
            await self._store.replace_kind(tenant, entry)
            return
        if len(await self._store.list_kinds(tenant)) >= MOST_OWN:
            message = f"A tenant has at most {MOST_OWN} kinds of its own."
            raise Invalid.field("entityName", "validation.msg.eventkind.too.many", message)
        await self._store.add_kind(tenant, entry)
