"""A webhook's payload as a typed value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

Id = int | str | None


class NotAnEvent(ValueError):
    """The body is not the payload of an event, although its signature is valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened at the platform. Numbers with a fraction are `Decimal`: money keeps its digits."""

    entity_name: str
    action_name: str
    timestamp: datetime
    created_by: Id = None
    created_by_name: str | None = None
    created_by_full_name: str | None = None
    office_id: Id = None
    client_id: Id = None
    loan_id: Id = None
    savings_id: Id = None
    group_id: Id = None
    request: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What the platform's caller sent; empty in a thin payload."""
    response: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        """Such as `CLIENT.CREATE`; the known ones are in `embarc.receiver.kinds.Kind`."""
        return f"{self.entity_name}.{self.action_name}"

    @property
    def resource_id(self) -> Id:
        """The id that the platform answered with."""
        found: Id = self.response.get("resourceId", self.response.get("resourceIdentifier"))
        return found

    @classmethod
    def parse(cls, body: bytes) -> Event:
        """The event of a verified body in JSON; raises `NotAnEvent`."""
        try:
            value = json.loads(body, parse_float=Decimal)
            return cls(
                entity_name=_text(value["entityName"]),
                action_name=_text(value["actionName"]),
                timestamp=datetime.fromisoformat(value["timestamp"]),
                created_by=value.get("createdBy"),
                created_by_name=value.get("createdByName"),
                created_by_full_name=value.get("createdByFullName"),
                office_id=value.get("officeId"),
                client_id=value.get("clientId"),
                loan_id=value.get("loanId"),
                savings_id=value.get("savingsId"),
                group_id=value.get("groupId"),
                request=_object(value.get("request", {})),
                response=_object(value.get("response", {})),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise NotAnEvent(f"The body is not an event's payload: {type(error).__name__}.") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a string is expected")
    return value


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("an object is expected")
    return value
