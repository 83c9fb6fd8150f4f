"""For platforms: emit an event inside your own database transaction. Standard library only.

The event is written to a table of your own database and commits together with the change it tells about, or not at
all. A relay carries it to Embarc afterwards. There is no moment at which the loan is approved and the event does
not exist, or the other way round.
"""

from embarc.outbox.emitting import emit, emit_async
from embarc.outbox.event import OutboxEvent
from embarc.outbox.schema import ddl

__all__ = ["OutboxEvent", "ddl", "emit", "emit_async"]
