"""Errors as answers: Fineract's envelope, for every error of every door."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from starlette.responses import Response

from embarc.core.errors import EmbarcError, FieldError


def envelope(error: EmbarcError) -> dict[str, Any]:
    """The JSON object that tells this error (Fineract's ApiGlobalErrorResponse; the status is a string)."""
    errors = error.errors or (FieldError(error.code, error.message),)
    return {
        "developerMessage": error.developer_message,
        "httpStatusCode": str(error.status),
        "defaultUserMessage": error.message,
        "userMessageGlobalisationCode": error.code,
        "errors": [_one(one) for one in errors],
    }


def answer(error: EmbarcError) -> Response:
    """The HTTP answer that tells this error."""
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="Embarc"'
    return Response(
        msgspec.json.encode(envelope(error)), error.status, headers=headers, media_type="application/json"
    )


def _one(error: FieldError) -> dict[str, Any]:
    value = (
        error.value
        if isinstance(error.value, str | int | float | bool | Decimal | None)
        else str(error.value)
    )
    return {
        "developerMessage": error.message,
        "defaultUserMessage": error.message,
        "userMessageGlobalisationCode": error.code,
        "parameterName": error.parameter,
        "value": value,
        "args": [] if value is None else [{"value": value}],
    }
