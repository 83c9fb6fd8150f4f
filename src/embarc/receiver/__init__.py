"""For whoever receives Embarc's webhooks: verify, then trust. Standard library only; adapters import their framework."""

from embarc.receiver.deduplication import Deduplicator, InProgress, MemoryLedger, SqliteLedger
from embarc.receiver.events import Event, NotAnEvent
from embarc.receiver.handling import Answer, Receiver
from embarc.receiver.verification import Reason, VerificationError, Verified, verify

__all__ = [
    "Answer",
    "Deduplicator",
    "Event",
    "InProgress",
    "MemoryLedger",
    "NotAnEvent",
    "Reason",
    "Receiver",
    "SqliteLedger",
    "VerificationError",
    "Verified",
    "verify",
]
