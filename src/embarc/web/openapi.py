"""The OpenAPI document and the page that shows it, both drawn from the table of routes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment

from embarc import __version__
from embarc.web.routes import Route

_PARAMETER = re.compile(r"{(\w+)}")

_ERROR = {
    "type": "object",
    "properties": {
        "developerMessage": {"type": "string"},
        "httpStatusCode": {"type": "string"},
        "defaultUserMessage": {"type": "string"},
        "userMessageGlobalisationCode": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}


def document(routes: Sequence[Route], base: str) -> dict[str, Any]:
    """OpenAPI 3.1 of these routes under `base`."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(base + route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Embarc",
            "version": __version__,
            "description": "Reliable webhooks for lending platforms. Errors always have Fineract's envelope.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
            "schemas": {"Error": _ERROR},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "description": meaning, "schema": {"type": "string"}}
        for name, meaning in route.query
    ]
    operation: dict[str, Any] = {
        "summary": route.summary,
        "tags": [route.tag],
        "operationId": _operation_id(route),
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": {}}}},
            "default": {
                "description": "What was wrong, in Fineract's error envelope.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if route.permission is not None:
        operation["security"] = [{"basic": []}]
        operation["description"] = f"Needs the permission `{route.permission}`."
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}, "example": route.body}},
        }
    return operation


def _operation_id(route: Route) -> str:
    words = [word for word in re.split(r"[^A-Za-z0-9]+", route.path) if word]
    return route.method.lower() + "".join(word[:1].upper() + word[1:] for word in words)


def page(routes: Sequence[Route], base: str) -> str:
    """The same as a page for people: plain HTML, no script, nothing loaded from elsewhere."""
    tags = list(dict.fromkeys(route.tag for route in routes))
    sections = [(tag, [route for route in routes if route.tag == tag]) for tag in tags]
    return _PAGE.render(sections=sections, base=base, version=__version__)


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


_templates = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
_templates.filters["pretty"] = _pretty
_PAGE = _templates.from_string("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Embarc API</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; }
h2 { margin-top: 2.5rem; text-transform: capitalize; border-bottom: 1px solid #8884; }
details { border: 1px solid #8884; border-radius: 6px; margin: .5rem 0; padding: .5rem .8rem; }
summary { cursor: pointer; }
.method { display: inline-block; min-width: 4.2rem; font-weight: 700; font-family: ui-monospace, monospace; }
code, pre { font-family: ui-monospace, monospace; font-size: .92em; }
pre { background: #8881; padding: .8rem; border-radius: 6px; overflow-x: auto; }
th, td { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top; }
</style>
</head>
<body>
<h1>Embarc API</h1>
<p>Version {{ version }}. Base path <code>{{ base }}</code>. Sign in with HTTP Basic.
The same as <a href="/openapi.json">OpenAPI</a>.</p>
{% for tag, routes in sections %}
<h2>{{ tag }}</h2>
{% for route in routes %}
<details>
<summary><span class="method">{{ route.method }}</span> <code>{{ route.path }}</code> &nbsp; {{ route.summary }}</summary>
{% if route.permission %}<p>Needs the permission <code>{{ route.permission }}</code>.</p>{% endif %}
{% if route.query %}
<table>
<tr><th>Query</th><th></th></tr>
{% for name, meaning in route.query %}
<tr><td><code>{{ name }}</code></td><td>{{ meaning }}</td></tr>
{% endfor %}
</table>
{% endif %}
{% if route.body is not none %}<pre>{{ route.body | pretty }}</pre>{% endif %}
</details>
{% endfor %}
{% endfor %}
</body>
</html>
""")
