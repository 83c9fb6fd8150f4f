"""Rows of an outbox as submissions to the engine of this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256

from embarc.core.errors import IdempotencyMismatch, Invalid, StoreUnavailable, TooLarge
from embarc.core.events import EventKind
from embarc.core.submissions import Receipt, Submission
from embarc.inlets.relay import NotNow, OutboxRow, Publish
from embarc.web import strict_json
from embarc.web.event_body import check_names, read_bodies, to_draft


def submitting(
    publish: Callable[[Submission], Awaitable[Receipt]],
    admit: Callable[[str, EventKind], Awaitable[EventKind]],
) -> Publish:
    """What publishes a row by `publish`, the engine's. `admit` lets its kind in for a tenant, or raises `Invalid`."""

    async def submit(row: OutboxRow) -> str | None:
        try:
            await publish(await _submission(row, admit))
        except (Invalid, IdempotencyMismatch, TooLarge) as error:
            return str(error)
        except StoreUnavailable as error:
            raise NotNow(str(error), error.retry_after_seconds) from error
        return None

    return submit


async def _submission(row: OutboxRow, admit: Callable[[str, EventKind], Awaitable[EventKind]]) -> Submission:
    compact = strict_json.check(row.body.encode())
    (body,), _ = read_bodies(compact, 1)
    kind = EventKind(body.entity_name, body.action_name)
    check_names(kind)
    return Submission(
        tenant=row.tenant,
        drafts=(to_draft(body, await admit(row.tenant, kind)),),
        idempotency_key=f"outbox:{row.id}",
        fingerprint=sha256(compact).digest(),
    )
