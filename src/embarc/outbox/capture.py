"""What a captured call becomes: which route it is, and the event it tells. No web framework, no reading or writing.

Rule 1: what could not be read (too large, compressed, not a JSON object) is carried as `{}`, and said; an event with less
in it is better than none. Rule 2: nothing here may disturb the platform's own answer.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from embarc.core.events import PAYLOAD_IDS
from embarc.outbox.event import OutboxEvent

LARGEST_BODY = 512 * 1024
"""Bytes of a request and of an answer that are kept; half of what Embarc takes in one event."""

_log = logging.getLogger("embarc.outbox")
_PLACES = ("path", "query", "request", "response")


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who made the call: the platform's user."""

    user_id: int | str
    username: str
    full_name: str


@dataclass(frozen=True, kw_only=True)
class CapturedCall:
    """One call with its answer, as it passed by. A body is None where it was not kept whole."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Of the request; names in lower case."""
    status: int
    request_body: bytes | None = field(repr=False)
    response_body: bytes | None = field(repr=False)
    context: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The ASGI scope or the WSGI environment, with whatever the platform put there (its user, say)."""

    @cached_property
    def request(self) -> Mapping[str, Any] | None:
        """The request's JSON object; None where it is none."""
        return _object(self.request_body)

    @cached_property
    def response(self) -> Mapping[str, Any] | None:
        """The answer's JSON object; None where it is none."""
        return _object(self.response_body)


@dataclass(frozen=True, kw_only=True)
class Route:
    """Calls that become events of one kind.

    Raises ValueError where `ids` or `entity_id` name what does not exist.
    """

    method: str
    path: str
    """As the caller writes it, with `{names}`: `/loans/{loanId}`. A slash at the end does not matter."""
    entity_name: str
    action_name: str
    query: Mapping[str, str] = field(default_factory=dict)
    """Parameters that must have these values, such as `command=approve`."""
    ids: Mapping[str, str] = field(default_factory=dict)
    """Where an id of the payload is found: `{"clientId": "response.clientId", "loanId": "path.loanId"}`."""
    entity_id: str | None = None
    """Where the entity's own id is found, if it is none of `ids` and not the answer's `resourceId`."""
    statuses: Iterable[int] = range(200, 300)
    """Answers that count as success."""

    def __post_init__(self) -> None:
        for name in self.ids:
            if name not in PAYLOAD_IDS:
                raise ValueError(f"`{name}` is no id of the payload. There are: {', '.join(PAYLOAD_IDS)}.")
        for place in (*self.ids.values(), *([self.entity_id] if self.entity_id else [])):
            where, _, name = place.partition(".")
            if where not in _PLACES or not name:
                raise ValueError(
                    f"`{place}` is no place: write {', '.join(f'{one}.NAME' for one in _PLACES)}."
                )
            if where == "path" and f"{{{name}}}" not in self.path:
                raise ValueError(f"`{place}` is not in the path {self.path}.")

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = re.split(r"\{(\w+)\}", self.path.rstrip("/"))
        written = [
            f"(?P<{part}>[^/]+)" if position % 2 else re.escape(part) for position, part in enumerate(parts)
        ]
        return re.compile("".join(written) + "/?")

    def matches(self, method: str, path: str, query: Mapping[str, str]) -> Mapping[str, str] | None:
        """The names in the path where a call is of this route, None where it is not."""
        found = self._pattern.fullmatch(path) if method == self.method.upper() else None
        if found is None or any(query.get(name) != value for name, value in self.query.items()):
            return None
        return found.groupdict()


class Capture:
    """The routes of a platform, and what its calls become."""

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        author: Callable[[CapturedCall], Author | None] = lambda call: None,
        tenant: Callable[[CapturedCall], str] = lambda call: "default",
        largest_body: int = LARGEST_BODY,
    ) -> None:
        """The first route that matches counts. `author` and `tenant` say who made a call, and whose data it is about."""
        self._routes = tuple(routes)
        self._author = author
        self._tenant = tenant
        self.largest_body = largest_body

    def concerns(self, method: str, path: str, query_string: str) -> bool:
        """Whether a call may become an event, so that its bodies are worth keeping."""
        return self._find(method, path, read_query(query_string)) is not None

    def event(self, call: CapturedCall) -> OutboxEvent | None:
        """The event of a call that succeeded; None where it did not."""
        found = self._find(call.method, call.path, call.query)
        if found is None:
            return None
        route, path = found
        if call.status not in route.statuses:
            return None
        for which, body, read in (
            ("request", call.request_body, call.request),
            ("answer", call.response_body, call.response),
        ):
            if read is None and body != b"":
                _log.warning(
                    "%s %s: the %s is not carried: it was not kept whole or is no JSON object",
                    call.method,
                    route.path,
                    which,
                )
        author = self._author(call)
        entity_id = _at(route.entity_id, path, call) if route.entity_id else None
        return OutboxEvent(
            entity_name=route.entity_name,
            action_name=route.action_name,
            tenant=self._tenant(call),
            created_by=author.user_id if author else None,
            created_by_name=author.username if author else None,
            created_by_full_name=author.full_name if author else None,
            ids=self._ids(route, path, call),
            entity_id=entity_id,
            timestamp=datetime.now(UTC),
            request=b"{}" if call.request is None else call.request_body or b"{}",
            response=b"{}" if call.response is None else call.response_body or b"{}",
        )

    def _find(
        self, method: str, path: str, query: Mapping[str, str]
    ) -> tuple[Route, Mapping[str, str]] | None:
        for route in self._routes:
            names = route.matches(method, path, query)
            if names is not None:
                return route, names
        return None

    def _ids(self, route: Route, path: Mapping[str, str], call: CapturedCall) -> dict[str, int | str]:
        ids: dict[str, int | str] = {}
        for name, place in route.ids.items():
            found = _at(place, path, call)
            if found is None:
                _log.warning("%s %s: there is no %s for %s", call.method, route.path, place, name)
            else:
                ids[name] = found
        return ids


def read_query(query_string: str) -> dict[str, str]:
    """The parameters of a query; of several of one name the last."""
    return dict(parse_qsl(query_string, keep_blank_values=True))


def _at(place: str, path: Mapping[str, str], call: CapturedCall) -> int | str | None:
    where, _, names = place.partition(".")
    found: Any = {"path": path, "query": call.query, "request": call.request, "response": call.response}[
        where
    ]
    for name in names.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, str) and where in ("path", "query") and re.fullmatch(r"0|[1-9][0-9]{0,18}", found):
        return int(found)
    return found if isinstance(found, int | str) and not isinstance(found, bool) else None


def _object(body: bytes | None) -> Mapping[str, Any] | None:
    try:
        read = json.loads((body or b"").decode())
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None
