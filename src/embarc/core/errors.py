"""What can go wrong on our side or the caller's. A receiver's failure is not here: that is an `Outcome`.

Every error knows the answer it becomes: HTTP status, Fineract's code (`userMessageGlobalisationCode`), a
sentence for the reader, and, where single fields are at fault, one `FieldError` for each of them.
`web/problems.py` renders them; nothing else turns an exception into an answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one named field of a request."""

    code: str
    message: str
    parameter: str = ""
    value: object = None


class EmbarcError(Exception):
    """An unexpected error occurred on the platform server."""

    status = 500
    code = "error.msg.platform.server.side.error"
    developer_message = "An unexpected error occurred on the platform server."

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        errors: Iterable[FieldError] = (),
        retry_after_seconds: int | None = None,
    ) -> None:
        self.message = message or (self.__doc__ or "").strip().splitlines()[0]
        self.code = code or self.code
        self.errors = tuple(errors)
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.message)

    def __str__(self) -> str:
        if not self.errors:
            return self.message
        return self.message + " " + "; ".join(e.message for e in self.errors)


class Invalid(EmbarcError):
    """Validation errors exist."""

    status = 400
    code = "validation.msg.validation.errors.exist"
    developer_message = (
        "The request was invalid. This typically will happen due to validation errors which are provided."
    )

    @classmethod
    def field(cls, parameter: str, code: str, message: str, value: object = None) -> Invalid:
        """The request is wrong in one field."""
        return cls(errors=[FieldError(code, message, parameter, value)])


class MalformedBody(Invalid):
    """The body of the request is not valid JSON."""

    code = "error.msg.invalid.request.body"


class Unauthenticated(EmbarcError):
    """Unauthenticated. Please login."""

    status = 401
    code = "error.msg.not.authenticated"
    developer_message = "Invalid authentication details were passed in api request."


class Forbidden(EmbarcError):
    """Insufficient privileges to perform this action."""

    status = 403
    code = "error.msg.not.authorized"
    developer_message = (
        "The user associated with credentials passed on this request does not have sufficient privileges "
        "to perform this action."
    )


class RuleViolation(EmbarcError):
    """Errors contain reason for domain rule violation."""

    status = 403
    code = "validation.msg.domain.rule.violation"
    developer_message = "Request was understood but caused a domain rule violation."

    @classmethod
    def rule(cls, code: str, message: str, parameter: str = "id", value: object = None) -> RuleViolation:
        """The request is well formed and breaks one rule of the domain."""
        return cls(errors=[FieldError(code, message, parameter, value)])


class Duplicate(EmbarcError):
    """The request caused a data integrity issue to be fired by the database."""

    status = 403
    code = "error.msg.data.integrity.issue"
    developer_message = "The request caused a data integrity issue to be fired by the database."


class NotFound(EmbarcError):
    """The requested resource is not available."""

    status = 404
    code = "error.msg.resource.not.found"
    developer_message = "The requested resource is not available."

    @classmethod
    def resource(cls, code: str, message: str, value: object = None) -> NotFound:
        """The thing with this identifier does not exist."""
        return cls(errors=[FieldError(code, message, "id", value)])


class MethodNotAllowed(EmbarcError):
    """This path does not answer this method."""

    status = 405
    code = "error.msg.method.not.allowed"
    developer_message = "The path exists and does not answer this HTTP method."


class Conflict(EmbarcError):
    """The request conflicts with another one that is in progress or was made before."""

    status = 409
    code = "error.msg.platform.service.conflict"
    developer_message = "The request conflicts with the current state of the resource."


class TooLarge(EmbarcError):
    """The body of the request is too large."""

    status = 413
    code = "error.msg.request.body.too.large"
    developer_message = "The body of the request exceeds the limit."


class TooManyRequests(EmbarcError):
    """Too many requests of this kind. Try again a little later."""

    status = 429
    code = "error.msg.too.many.requests"
    developer_message = "The request was refused because there were too many before it."


class IdempotencyMismatch(EmbarcError):
    """This Idempotency-Key was used before with another body. Use a new key for a new request."""

    status = 422
    code = "error.msg.idempotency.key.reused"
    developer_message = "The same Idempotency-Key was sent with a different request body."


class StoreUnavailable(EmbarcError):
    """The store cannot commit at the moment, nothing was accepted. Send the same request again later."""

    status = 503
    code = "error.msg.store.unavailable"
    developer_message = (
        "The store cannot commit. Nothing of this request was accepted; it is safe to repeat it."
    )


class OutcomeUnknown(StoreUnavailable):
    """The store's answer did not arrive: the request may have been accepted. Repeat it with the same Idempotency-Key."""

    code = "error.msg.store.outcome.unknown"
    developer_message = (
        "The connection to the store broke before its answer. Repeated with the same Idempotency-Key, the request is "
        "accepted once; without one it may be accepted twice."
    )


class SettingsError(EmbarcError):
    """A setting is wrong."""
