"""An imitation of what Apache Fineract 1.11 sends to a Web hook, down to what Gson and Retrofit make of it.

From its source: the request's JSON is read into a map, whose numbers are doubles (`1` becomes `1.0`, ten million
`1.0E7`) and whose nulls are lost on the way out; Gson escapes `< > & = '` in strings; the form has one field for each
top-level key, and a nested map in it is Java's `Map.toString`.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit

_ESCAPED = {character: f"\\u{ord(character):04x}" for character in "<>&='\u2028\u2029"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FineractHook:
    """A Web hook of a Fineract, pointing to `url`. Every call is one POST of Retrofit's on a connection of its own."""

    url: str
    content_type: str = "json"
    tenant: str = "default"
    origin: str = "https://fineract.example.com:8443/fineract-provider/api/v1/"

    async def ping(self) -> int:
        """What making the hook does: a GET without headers of its own. Returns the status, at which it does not look."""
        status, _ = await self._exchange("GET", None, {})
        return status

    async def fires(
        self,
        entity: str,
        action: str,
        *,
        request: Mapping[str, Any],
        response: Mapping[str, Any],
        timestamp: str | None = "2024-10-24T09:52:59.123456Z",
        **others: Any,
    ) -> tuple[int, Any]:
        """Send the payload of one command; `others` are `officeId`, `clientId` and `status`. Returns status and answer."""
        payload = {
            "response": dict(response),
            "createdByName": "mifos",
            "entityName": entity,
            "request": _with_doubles(request),
            "actionName": action,
            "createdBy": 1,
            "createdByFullName": "App Administrator",
            **({"timestamp": timestamp} if timestamp else {}),
            **others,
        }
        return await self.sends(entity, action, payload)

    async def sends(self, entity: str, action: str, payload: Mapping[str, Any]) -> tuple[int, Any]:
        """Send a payload as it is."""
        headers = {
            "X-Fineract-Entity": entity,
            "X-Fineract-Action": action,
            "Fineract-Platform-TenantId": self.tenant,
            "X-Fineract-Endpoint": self.origin,
        }
        if self.content_type == "json":
            return await self._exchange(
                "POST", _gson(payload).encode(), headers | {"Content-Type": "application/json; charset=UTF-8"}
            )
        body = "&".join(f"{name}={_okhttp(java(_with_doubles(value)))}" for name, value in payload.items())
        return await self._exchange(
            "POST", body.encode(), headers | {"Content-Type": "application/x-www-form-urlencoded"}
        )

    async def _exchange(self, method: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, Any]:
        return await asyncio.to_thread(self._blocking, method, body, headers)

    def _blocking(self, method: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, Any]:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        try:
            connection.putrequest(method, parts.path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.putheader("Connection", "Keep-Alive")
            connection.putheader("Accept-Encoding", "gzip")
            connection.putheader("User-Agent", "okhttp/4.12.0")
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


def java(value: Any) -> str:
    """What `String.valueOf` makes of a value that Gson has read."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return _double(value)
        case dict():
            return "{" + ", ".join(f"{name}={java(one)}" for name, one in value.items()) + "}"
        case list():
            return "[" + ", ".join(java(one) for one in value) + "]"
    return str(value)


def _with_doubles(value: Any) -> Any:
    match value:
        case bool() | None:
            return value
        case int() | float():
            return float(value)
        case Mapping():
            return {name: _with_doubles(one) for name, one in value.items() if one is not None}
        case list():
            return [_with_doubles(one) for one in value]
    return value


def _gson(value: Any) -> str:
    match value:
        case float():
            return _double(value)
        case str():
            written = json.dumps(value, ensure_ascii=False)
            return "".join(_ESCAPED.get(character, character) for character in written)
        case Mapping():
            return "{" + ",".join(f"{_gson(name)}:{_gson(one)}" for name, one in value.items()) + "}"
        case list():
            return "[" + ",".join(_gson(one) for one in value) + "]"
    return json.dumps(value)


def _double(value: float) -> str:
    """Java's `Double.toString`."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 - infinities are not sent
    fraction = "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{digits[0]}.{fraction}E{exponent + len(digits) - 1}"


def _okhttp(text: str) -> str:
    return quote(text, safe="*-._")
