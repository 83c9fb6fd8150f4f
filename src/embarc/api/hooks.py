"""`/hooks`, as Fineract answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from embarc.api import log, wire
from embarc.api.replays import body_of, render
from embarc.core.errors import Forbidden
from embarc.core.events import timestamp_text
from embarc.core.fields import Fields
from embarc.core.hooks import Hook
from embarc.engine.hooks import Hooks
from embarc.engine.kinds import Kinds
from embarc.engine.ping import Pinger
from embarc.engine.read import Reader
from embarc.engine.replays import Replays
from embarc.web.routes import Call, Route, unsupported_command

_EXAMPLE = {
    "name": "client-events",
    "displayName": "Client creation hook",
    "isActive": True,
    "events": [{"entityName": "CLIENT", "actionName": "CREATE"}],
    "config": [
        {"fieldName": "Payload URL", "fieldValue": "https://yourapp.example.com/webhooks/embrc"},
        {"fieldName": "Content Type", "fieldValue": "json"},
    ],
}


def routes(
    hooks: Hooks,
    kinds: Kinds,
    reader: Reader,
    replays: Replays,
    pinger: Pinger,
    fingerprint: Callable[[str], str],
) -> list[Route]:
    """The routes of hooks."""

    def note(call: Call, before: Hook, after: Hook) -> None:
        call.notes.update(
            before=wire.audited_hook(before, fingerprint), after=wire.audited_hook(after, fingerprint)
        )

    async def warnings(call: Call, hook: Hook) -> dict[str, Any]:
        return wire.warnings(await kinds.catalogue(call.caller.tenant), hook.subscriptions)

    async def template(call: Call) -> dict[str, Any]:
        catalogue = await kinds.catalogue(call.caller.tenant)
        return {
            "templates": wire.templates(),
            "groupings": catalogue.groupings(),
            "events": wire.catalogue_events(catalogue),
        }

    async def list_hooks(call: Call) -> list[dict[str, Any]]:
        return [wire.hook(hook, reader.why_held(hook)) for hook in await hooks.list(call.caller.tenant)]

    async def get_hook(call: Call) -> dict[str, Any]:
        hook: Hook = await hooks.get(call.caller.tenant, call.path["hookId"])
        if call.query.get("template", "").lower() != "true":
            return wire.hook(hook, reader.why_held(hook))
        return wire.hook(hook, reader.why_held(hook)) | {
            "templates": wire.templates([hook.template]),
            "groupings": (await kinds.catalogue(call.caller.tenant)).groupings(),
        }

    async def stats(call: Call) -> dict[str, Any]:
        hook = await hooks.get(call.caller.tenant, call.path["hookId"])
        return wire.hook_stats(await reader.hook_stats(hook))

    async def create_hook(call: Call) -> dict[str, Any]:
        created = await hooks.create(call.caller.tenant, call.json())
        call.notes.update(
            resource_id=str(created.hook.id), after=wire.audited_hook(created.hook, fingerprint)
        )
        shown_once = {} if created.secret is None else {"secret": created.secret}
        return {"resourceId": created.hook.id} | shown_once | await warnings(call, created.hook)

    async def update_hook(call: Call) -> dict[str, Any]:
        before = await hooks.get(call.caller.tenant, call.path["hookId"])
        hook, changed = await hooks.update(call.caller.tenant, call.path["hookId"], call.json())
        note(call, before, hook)
        answer = {"resourceId": hook.id, "changes": wire.changes(changed)}
        return answer | (await warnings(call, hook) if "events" in changed else {})

    async def delete_hook(call: Call) -> dict[str, Any]:
        hook = await hooks.delete(call.caller.tenant, call.path["hookId"])
        call.notes.update(before=wire.audited_hook(hook, fingerprint))
        return {"resourceId": hook.id}

    async def enable(call: Call) -> dict[str, Any]:
        """Switch it on, and offer what it missed: with `{"replay": true}` that is sent at once."""
        fields = Fields(call.json() if call.body.strip() else {}, "hook", ("replay",))
        wants_replay = fields.boolean("replay", default=False)
        fields.check()
        tenant = call.caller.tenant
        before = await hooks.get(tenant, call.path["hookId"])
        hook = await hooks.enable(tenant, call.path["hookId"])
        since_ms = before.inactive_since_ms
        if since_ms is None:
            return {"resourceId": hook.id}
        missed = replays.missed(hook, since_ms)
        answer: dict[str, Any] = {
            "resourceId": hook.id,
            "missed": {"count": await replays.preview(tenant, missed), "selection": body_of(missed)},
        }
        if wants_replay:
            answer["replay"] = render(await replays.create(tenant, missed, call.caller.username))
        return answer

    async def pause(call: Call) -> dict[str, Any]:
        return {"resourceId": (await hooks.pause(call.caller.tenant, call.path["hookId"])).id}

    async def resume(call: Call) -> dict[str, Any]:
        return {"resourceId": (await hooks.resume(call.caller.tenant, call.path["hookId"])).id}

    async def rotate_secret(call: Call) -> dict[str, Any]:
        body = call.json() if call.body.strip() else {}
        hook, secret = await hooks.rotate_secret(call.caller.tenant, call.path["hookId"], body)
        old = [timestamp_text(one.expires_at_ms) for one in hook.secrets if one.expires_at_ms is not None]
        return {"resourceId": hook.id, "secret": secret, "oldSecretsExpireAt": old}

    async def ping(call: Call) -> dict[str, Any]:
        attempt = await pinger.ping(call.caller.tenant, call.path["hookId"])
        return {"resourceId": int(call.path["hookId"]), "attempt": log.render_attempt(attempt)}

    commands = {
        "enable": enable,
        "pause": pause,
        "ping": ping,
        "resume": resume,
        "rotateSecret": rotate_secret,
    }

    async def command(call: Call) -> dict[str, Any]:
        run = commands.get(call.query.get("command", ""))
        if run is None:
            raise unsupported_command(call, commands)
        if run is rotate_secret and not call.caller.may("UPDATE_HOOK"):
            raise Forbidden("Rotating a secret needs the permission UPDATE_HOOK.")
        if run is ping:
            return await run(call)
        before = await hooks.get(call.caller.tenant, call.path["hookId"])
        answer = await run(call)
        note(call, before, await hooks.get(call.caller.tenant, call.path["hookId"]))
        return answer

    with_template = (("template", "`true` adds the template and the catalogue"),)
    return [
        Route(
            method="GET",
            path="/hooks/template",
            handler=template,
            permission="READ_HOOK",
            summary="Templates with their fields, and every event there is",
            tag="hooks",
        ),
        Route(
            method="GET",
            path="/hooks",
            handler=list_hooks,
            permission="READ_HOOK",
            summary="List hooks",
            tag="hooks",
        ),
        Route(
            method="POST",
            path="/hooks",
            handler=create_hook,
            permission="CREATE_HOOK",
            summary="Create a hook; a secret that was made up is answered this once",
            tag="hooks",
            body=_EXAMPLE,
        ),
        Route(
            method="GET",
            path="/hooks/{hookId}",
            handler=get_hook,
            permission="READ_HOOK",
            summary="One hook",
            tag="hooks",
            query=with_template,
        ),
        Route(
            method="GET",
            path="/hooks/{hookId}/stats",
            handler=stats,
            permission="READ_HOOK",
            summary="How it goes with a hook: breaker, attempts in flight, what waits",
            tag="hooks",
        ),
        Route(
            method="PUT",
            path="/hooks/{hookId}",
            handler=update_hook,
            permission="UPDATE_HOOK",
            summary="Change a hook; events and config replace what was there",
            tag="hooks",
            body={"isActive": False},
        ),
        Route(
            method="POST",
            path="/hooks/{hookId}",
            handler=command,
            permission="OPERATE_HOOK",
            summary='Commands: ping sends a test now; pause, resume; enable tells what was missed, and sends it with {"replay": true}; rotateSecret answers the new secret this once',
            tag="hooks",
            query=(("command", ", ".join(commands)),),
        ),
        Route(
            method="DELETE",
            path="/hooks/{hookId}",
            handler=delete_hook,
            permission="DELETE_HOOK",
            summary="Delete a hook and cancel what waits for it",
            tag="hooks",
        ),
    ]
