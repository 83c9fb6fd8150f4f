"""A receiver as a WSGI application, alone or mounted; and as a view of Flask or Django."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from embarc.receiver.handling import BODY_LIMIT, Answer, Receiver

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def wsgi_app(receiver: Receiver) -> WsgiApp:
    """An application that answers POST requests on every path it is given."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = _answer(receiver, environ)
        status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [answer.text.encode()]

    return app


def flask_view(receiver: Receiver) -> Callable[[], tuple[str, int]]:
    """A view: `app.add_url_rule("/webhooks", view_func=flask_view(receiver), methods=["POST"])`."""
    from flask import request

    def embarc_webhook() -> tuple[str, int]:
        raw = request.get_data(cache=False)
        answer = receiver.handle(list(request.headers.items()), raw, request.remote_addr or "")
        return answer.text, answer.status

    return embarc_webhook


def django_view(receiver: Receiver) -> Callable[[Any], Any]:
    """A view: `path("webhooks", django_view(receiver))`. The signature stands in for the CSRF token."""
    from django.http import HttpResponse
    from django.views.decorators.csrf import csrf_exempt
    from django.views.decorators.http import require_POST

    def embarc_webhook(request: Any) -> Any:
        answer = receiver.handle(request.headers, request.body, request.META.get("REMOTE_ADDR", ""))
        return HttpResponse(answer.text, status=answer.status, content_type="text/plain; charset=utf-8")

    view: Callable[[Any], Any] = csrf_exempt(require_POST(embarc_webhook))
    return view


def _answer(receiver: Receiver, environ: dict[str, Any]) -> Answer:
    if environ["REQUEST_METHOD"] != "POST":
        return Answer(405, "send webhooks with POST")
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return Answer(400, "the Content-Length is not a number")
    if length > BODY_LIMIT:
        return Answer(413, "the body is too large")
    body = environ["wsgi.input"].read(length)
    headers = [
        (name.removeprefix("HTTP_").replace("_", "-"), value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    return receiver.handle(headers, body, environ.get("REMOTE_ADDR", ""))
