"""Hooks: create, change, delete, pause and enable."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from embarc.core.catalogue import Catalogue
from embarc.core.errors import NotFound
from embarc.core.events import ANY, EventKind
from embarc.core.fields import Fields
from embarc.core.hook_config import (
    CLIENT_SECRET,
    INVALID_VALUE,
    SECRET,
    TOKEN_URL,
    URL,
    URL_INVALID,
    ParsedConfig,
    credentials_in_use,
    given_value,
    read_config,
)
from embarc.core.hooks import Hook, Signature, SigningSecret
from embarc.core.signatures import new_secret, parse_secret
from embarc.core.urls import BadUrl, parse_url
from embarc.engine.credentials import mistakes, new_signing_key
from embarc.engine.kinds import Kinds
from embarc.net.guard import UrlChecker
from embarc.observe import Observe
from embarc.store.base import Store

TEMPLATES = ("Elastic Search", "Web")
DEFAULT_TEMPLATE = "Web"
_OTHER_TEMPLATES = ("SMS Bridge", "Message Gateway")
_LONGEST_NAME = 100
_MOST_EVENTS = 1000
DEFAULT_OVERLAP_HOURS = 24
MOST_OVERLAP_HOURS = 720
MOST_SECRETS = 4
_CREATE = ("name", "displayName", "isActive", "events", "config", "templateId")


@dataclass(frozen=True, slots=True)
class Created:
    """A new hook; `secret` where it was made up, to be shown this once."""

    hook: Hook
    secret: str | None = field(repr=False)

    def __repr__(self) -> str:
        return f"<Created {self.hook.id}>"


class Hooks:
    """What can be done with hooks. Every check of a creation is made at a change as well."""

    def __init__(
        self,
        store: Store,
        kinds: Kinds,
        urls: UrlChecker,
        *,
        on_change: Callable[[], Awaitable[None]],
        clock: Callable[[], float],
        observe: Observe,
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._urls = urls
        self._on_change = on_change
        self._clock = clock
        self._observe = observe

    async def create(self, tenant: str, body: Any) -> Created:
        """Make a hook of a request's body; raises `Invalid` with everything that is wrong, `NotFound` for a template."""
        fields = Fields(body, "hook", _CREATE)
        name = fields.text("name", required=True, longest=_LONGEST_NAME)
        display_name = fields.text("displayName", longest=_LONGEST_NAME)
        is_active = fields.boolean("isActive", default=False)
        fields.integer("templateId", at_least=1)
        subscriptions = self._events(fields, await self._kinds.catalogue(tenant))
        parsed = await self._config(fields)
        fields.check()
        assert name is not None  # noqa: S101 - `required` noted its absence
        _check_template(name)
        secret = parsed.secret or new_secret(secrets.token_bytes)
        needs_key = parsed.endpoint.signature is not Signature.HMAC
        hook = await self._store.add_hook(
            Hook(
                tenant=tenant,
                id=0,
                template=name if name in TEMPLATES else DEFAULT_TEMPLATE,
                name=name,
                display_name=display_name or name,
                is_active=bool(is_active),
                inactive_since_ms=None if is_active else int(self._clock() * 1000),
                subscriptions=subscriptions,
                config=parsed.config,
                endpoint=parsed.endpoint,
                secrets=(SigningSecret(secret),),
                signing_key=new_signing_key() if needs_key else "",
                credentials=parsed.credentials,
            )
        )
        await self._changed()
        return Created(hook, None if parsed.secret else secret)

    async def update(self, tenant: str, hook_id: str, body: Any) -> tuple[Hook, dict[str, Any]]:
        """Change what the body names; events and config replace what was there. Returns the hook and its changes.

        The name is the template's and stays (Fineract ignores it too). A secret that the config does not name stays.
        """
        hook = await self.get(tenant, hook_id)
        fields = Fields(body, "hook", _CREATE)
        changed = hook
        fields.text("name", longest=_LONGEST_NAME)
        fields.integer("templateId", at_least=1)
        if "displayName" in fields:
            display_name = fields.text("displayName", longest=_LONGEST_NAME)
            changed = replace(changed, display_name=display_name or hook.name)
        is_active = fields.boolean("isActive")
        if is_active is not None and is_active != hook.is_active:
            changed = self._active(changed, is_active=is_active)
        if "events" in fields.body:
            catalogue = await self._kinds.catalogue(tenant)
            changed = replace(changed, subscriptions=self._events(fields, catalogue))
        if "config" in fields.body:
            changed = await self._reconfigured(fields, changed)
        fields.check()
        changes = _changes(hook, changed)
        if changed != hook:
            hook = await self._replace(changed)
        return hook, changes

    async def delete(self, tenant: str, hook_id: str) -> Hook:
        """Delete the hook and cancel what waits for it."""
        hook = await self._store.remove_hook(tenant, _number(hook_id))
        if hook is None:
            raise _not_found(hook_id)
        await self._changed()
        return hook

    async def get(self, tenant: str, hook_id: str) -> Hook:
        """The hook; raises `NotFound`."""
        hook = await self._store.get_hook(tenant, _number(hook_id))
        if hook is None:
            raise _not_found(hook_id)
        return hook

    async def list(self, tenant: str) -> Sequence[Hook]:
        """All hooks of the tenant, by display name."""
        return await self._store.list_hooks(tenant)

    async def pause(self, tenant: str, hook_id: str) -> Hook:
        """Send nothing for a while; its events are kept and wait."""
        return await self._switch(tenant, hook_id, is_paused=True)

    async def resume(self, tenant: str, hook_id: str) -> Hook:
        """Send again, what waited first."""
        return await self._switch(tenant, hook_id, is_paused=False)

    async def enable(self, tenant: str, hook_id: str) -> Hook:
        """Switch a hook on again, after it was disabled or made inactive."""
        hook = await self.get(tenant, hook_id)
        return await self._replace(self._active(hook, is_active=True))

    async def _switch(self, tenant: str, hook_id: str, *, is_paused: bool) -> Hook:
        hook = await self.get(tenant, hook_id)
        return (
            hook if hook.is_paused == is_paused else await self._replace(replace(hook, is_paused=is_paused))
        )

    async def _replace(self, hook: Hook) -> Hook:
        stored = await self._store.replace_hook(hook)
        if stored is None:
            raise _not_found(str(hook.id))
        await self._changed()
        return stored

    def _active(self, hook: Hook, *, is_active: bool) -> Hook:
        """The hook switched on, with a clean record, or off."""
        if is_active:
            return replace(
                hook, is_active=True, failing_since_ms=None, inactive_since_ms=None, inactive_because=""
            )
        return replace(hook, is_active=False, inactive_since_ms=int(self._clock() * 1000))

    async def _changed(self) -> None:
        await self._on_change()
        self._observe("hooks.changed")

    async def rotate_secret(self, tenant: str, hook_id: str, body: Any) -> tuple[Hook, str]:
        """Sign with a new secret; the old ones sign beside it until the overlap ends. Returns the new one, to be shown once.

        `body` may name the `secret` and the `overlapHours` (0 to 720; 24).
        """
        hook = await self.get(tenant, hook_id)
        fields = Fields(body, "hook", ("secret", "overlapHours"))
        given = fields.text("secret")
        hours = fields.integer(
            "overlapHours", default=DEFAULT_OVERLAP_HOURS, at_least=0, at_most=MOST_OVERLAP_HOURS
        )
        if given is not None:
            try:
                parse_secret(given)
            except ValueError as error:
                fields.fail_code("secret", "validation.msg.hook.secret.invalid", str(error))
            if any(hmac.compare_digest((given or "").encode(), one.text.encode()) for one in hook.secrets):
                fields.fail_code(
                    "secret", "validation.msg.hook.secret.known", "The hook has this secret already."
                )
        fields.check()
        secret = given or new_secret(secrets.token_bytes)
        changed = replace(hook, secrets=self._rotated(hook, secret, hours or 0))
        return await self._replace(changed), secret

    def _rotated(self, hook: Hook, secret: str, overlap_hours: int) -> tuple[SigningSecret, ...]:
        """The new secret, and the old ones that still sign for so long; those that were ending end no later."""
        now_ms = int(self._clock() * 1000)
        ends_ms = now_ms + overlap_hours * 3_600_000
        old = [
            replace(one, expires_at_ms=min(one.expires_at_ms or ends_ms, ends_ms))
            for one in hook.secrets
            if not hmac.compare_digest(one.text.encode(), secret.encode())
            and (one.expires_at_ms is None or one.expires_at_ms > now_ms)
        ]
        live = [one for one in old if one.expires_at_ms is not None and one.expires_at_ms > now_ms]
        return (SigningSecret(secret), *live[: MOST_SECRETS - 1])

    async def _reconfigured(self, fields: Fields, hook: Hook) -> Hook:
        """The hook with the configuration of a request. Stored credentials do not follow it to another origin, nor the client's
        secret to another authorization server. A secret that it names is a rotation: the old one signs beside it."""
        present = dict(hook.credentials)
        given_url, given_token_url = given_value(fields, URL), given_value(fields, TOKEN_URL)
        if given_url is not None and not _is_same_origin(given_url, hook.endpoint.url):
            present = {}
        if given_token_url is not None and not _is_same_origin(given_token_url, hook.endpoint.token_url):
            present.pop(CLIENT_SECRET, None)
        if hook.secrets:
            present[SECRET] = hook.secrets[0].text
        parsed = await self._config(fields, present)
        needs_key = parsed.endpoint.signature is not Signature.HMAC and not hook.signing_key
        return replace(
            hook,
            config=parsed.config,
            endpoint=parsed.endpoint,
            secrets=self._rotated(hook, parsed.secret, DEFAULT_OVERLAP_HOURS)
            if parsed.secret
            else hook.secrets,
            credentials=credentials_in_use(parsed.endpoint, parsed.credentials),
            signing_key=new_signing_key() if needs_key else hook.signing_key,
        )

    async def _config(self, fields: Fields, present: Mapping[str, str] | None = None) -> ParsedConfig:
        parsed = read_config(fields, self._urls.canonical, present)
        if fields.errors:
            return parsed
        for name, why in mistakes(parsed.endpoint, parsed.credentials):
            fields.fail_code(name, INVALID_VALUE, f"The configuration field `{name}` is not valid: {why}.")
        for name, url in ((URL, parsed.endpoint.url), (TOKEN_URL, parsed.endpoint.token_url)):
            try:
                if url:
                    await self._urls.check_name(url)
            except BadUrl as error:
                message = f"The configuration field `{name}` is not valid: {error}."
                fields.fail_code(name, URL_INVALID if name == URL else INVALID_VALUE, message, url)
        return parsed

    def _events(self, fields: Fields, catalogue: Catalogue) -> tuple[EventKind, ...]:
        raw = fields.body.get("events")
        if not isinstance(raw, list) or not raw:
            fields.fail_code(
                "events",
                "validation.msg.hook.registered.events.cannot.be.empty",
                "The parameter `events` must name at least one event as {entityName, actionName}.",
            )
            return ()
        if len(raw) > _MOST_EVENTS:
            fields.fail(
                "events",
                "exceeds.max.length",
                f"The parameter `events` may name at most {_MOST_EVENTS} events.",
            )
            return ()
        kinds = [self._kind(fields, item, catalogue) for item in raw]
        return tuple(dict.fromkeys(kind for kind in kinds if kind is not None))

    def _kind(self, fields: Fields, item: Any, catalogue: Catalogue) -> EventKind | None:
        entity, action = (
            (item.get("entityName"), item.get("actionName")) if isinstance(item, dict) else (None, None)
        )
        if not isinstance(entity, str) or not isinstance(action, str) or not entity or not action:
            fields.fail(
                "events", "invalid", "Each of `events` must be an object {entityName, actionName} of strings."
            )
            return None
        for name in item.keys() - {"entityName", "actionName"}:
            fields.unsupported(name, ("entityName", "actionName"))
        kind = EventKind(entity, action)
        if catalogue.can_subscribe(kind):
            return kind
        if self._kinds.is_open and all(part == ANY or EventKind.is_name(part) for part in (entity, action)):
            return kind
        near = catalogue.nearest(kind)
        fields.fail_code(
            "events",
            "validation.msg.hook.event.unknown",
            f"There is no event {str(kind)[:200]}." + (f" Did you mean {near}?" if near else ""),
            str(kind)[:200],
        )
        return None


def _is_same_origin(one: str, other: str) -> bool:
    try:
        return parse_url(one).origin == parse_url(other).origin
    except BadUrl:
        return False  # it is refused elsewhere, with the reason


def _check_template(name: str) -> None:
    if name in _OTHER_TEMPLATES:
        raise NotFound.resource(
            "error.msg.template.not.found",
            f"Template with name `{name}` does not exist. There are: {', '.join(TEMPLATES)}; any other name is a hook "
            f"of the template {DEFAULT_TEMPLATE}.",
            name,
        )


def _changes(before: Hook, after: Hook) -> dict[str, Any]:
    """What a change changed, by wire name, values as core has them."""
    changes: dict[str, Any] = {}
    if after.display_name != before.display_name:
        changes["displayName"] = after.display_name
    if after.is_active != before.is_active:
        changes["isActive"] = after.is_active
    if after.subscriptions != before.subscriptions:
        changes["events"] = after.subscriptions
    if dict(after.config) != dict(before.config):
        changes["config"] = after.config
    return changes


def _number(hook_id: str) -> int:
    if not (hook_id.isascii() and hook_id.isdigit() and len(hook_id) < 19):
        raise _not_found(hook_id)
    return int(hook_id)


def _not_found(hook_id: str) -> NotFound:
    return NotFound.resource(
        "error.msg.hook.identifier.not.found",
        f"Hook with identifier `{hook_id[:50]}` does not exist",
        hook_id[:50],
    )
