"""Commands that are sent again with their `Idempotency-Key`, because nobody knows whether the first one was carried out.

The answer is kept in the command's own transaction, as Fineract does: the same key and request get it again, nothing happens
and no event is told twice. A command that was refused is kept by nobody: it may be sent again and succeed.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec
from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, Session, mapped_column

from embarc.core.errors import IdempotencyMismatch, Invalid
from embarc.sandbox.tables import Base
from embarc.web.routes import Call

HEADER = "Idempotency-Key"
LONGEST_KEY = 200


class KeptAnswer(Base):
    """What a command with a key was answered."""

    __tablename__ = "kept_answers"
    tenant: Mapped[str] = mapped_column(String, primary_key=True)
    key: Mapped[str] = mapped_column(String, primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[bytes] = mapped_column(LargeBinary)


def known_answer(session: Session, call: Call) -> msgspec.Raw | None:
    """The answer to the same command under the same key, as JSON; None where it is new or has no key.

    Raises `IdempotencyMismatch` where the key was another command's, `Invalid` where it is no key.
    """
    key = call.headers.get(HEADER)
    if key is None:
        return None
    if not 0 < len(key) <= LONGEST_KEY:
        message = f"The header {HEADER} must have 1 to {LONGEST_KEY} characters."
        raise Invalid.field(HEADER, "validation.msg.command.idempotencyKey.exceeds.max.length", message)
    kept = session.get(KeptAnswer, (call.caller.tenant, key))
    if kept is None:
        return None
    if kept.fingerprint != _fingerprint(call):
        raise IdempotencyMismatch
    call.answer_headers["x-served-from-cache"] = "true"
    return msgspec.Raw(kept.answer)


def keep_answer(session: Session, call: Call, answer: Any) -> None:
    """Remember the answer, if the command has a key."""
    key = call.headers.get(HEADER)
    if key is not None:
        session.add(
            KeptAnswer(
                tenant=call.caller.tenant,
                key=key,
                fingerprint=_fingerprint(call),
                answer=msgspec.json.encode(answer),
            )
        )


def _fingerprint(call: Call) -> bytes:
    """Of everything that says what is to be done."""
    return sha256(call.target.encode() + b"\n" + call.body).digest()
