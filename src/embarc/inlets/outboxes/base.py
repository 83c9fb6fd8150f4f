"""What the relay needs of an outbox table, and the statements that databases have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

LANES_A_ROUND = 8
"""Half of the lanes: what one relay takes at a time leaves as much to another."""
ROWS_A_LANE = 64


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One event in the outbox."""

    id: str
    tenant: str
    entity: str | None
    """What it must not be overtaken in; None where nothing is known."""
    body: str

    def __repr__(self) -> str:
        return f"<OutboxRow {self.id}>"  # the body is a person's data


class Source(Protocol):
    """An outbox table. Rounds follow one another: `take`, then `finish` or `let_go`."""

    async def take(self) -> Sequence[OutboxRow]:
        """Begin a round: of the waiting rows that no other relay carries, the oldest of each entity, in order.

        An entity's rows are there without a gap, from its oldest one on; an entity with a refused row is left out from
        that row on. Without rows no round has begun.
        """
        ...

    async def finish(self, accepted: Sequence[str], refused: Mapping[str, str]) -> None:
        """End the round durably: rows (by id) that were accepted, and those refused for good with the reason."""
        ...

    async def let_go(self) -> None:
        """Give up whatever round and connection there is; the next `take` connects anew."""
        ...

    async def close(self) -> None:
        """Let go of it for good."""
        ...


def columns() -> str:
    """What a row is read as."""
    return "o.id, o.tenant, o.entity, o.body"


def waiting(tenant_placeholder: str | None) -> str:
    """The condition of rows that can be carried; one statement, so that nothing changes between its two halves."""
    ours = f" and o.tenant = {tenant_placeholder}" if tenant_placeholder else ""
    return (
        f"o.state = 0{ours} and not exists (select 1 from embarc_outbox r "  # noqa: S608 - nothing from outside
        "where r.state = 2 and r.entity = o.entity and r.position < o.position)"
    )


def busy_lanes(tenant_placeholder: str | None) -> str:
    """The lanes that have waiting rows: sixteen looks into an index, however many rows there are.

    The `limit` keeps planners from counting all of them first.
    """
    ours = f" and o.tenant = {tenant_placeholder}" if tenant_placeholder else ""
    return (
        "select l.lane from embarc_outbox_lane l where "  # noqa: S608 - nothing from outside
        f"(select 1 from embarc_outbox o where o.state = 0 and o.lane = l.lane{ours} limit 1) is not null"
    )
