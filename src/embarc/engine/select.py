"""Selecting: whether a hook's filter wants an event. One that cannot say gets it, and that is told."""

from __future__ import annotations

from typing import Any

import msgspec

from embarc.core.events import EventKind
from embarc.core.filters import FilterFailed
from embarc.core.hooks import Hook
from embarc.observe import Observe

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def passes(hook: Hook, kind: EventKind, payload: bytes, observe: Observe) -> bool:
    """Whether the hook's filter lets an event pass that its subscriptions cover."""
    expression = hook.endpoint.filter
    if expression is None:
        return True
    try:
        return expression.wants(_decode(payload), kind.entity_name, kind.action_name)
    except FilterFailed as error:
        observe("filter.failed", hook=hook.id, kind=str(kind), reason=str(error))
        return True
