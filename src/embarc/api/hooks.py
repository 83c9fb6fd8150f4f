"""`/hooks`, as Fineract answers it."""

from __future__ import annotations

from typing import Any

from embarc.api import wire
from embarc.core.catalogue import Catalogue
from embarc.core.hooks import Hook
from embarc.engine.hooks import Hooks
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


def routes(hooks: Hooks, catalogue: Catalogue) -> list[Route]:
    """The routes of hooks."""
    groupings = catalogue.groupings()
    listed = wire.catalogue_events(catalogue)

    async def template(call: Call) -> dict[str, Any]:
        return {"templates": wire.templates(), "groupings": groupings, "events": listed}

    async def list_hooks(call: Call) -> list[dict[str, Any]]:
        return [wire.hook(hook) for hook in await hooks.list(call.caller.tenant)]

    async def get_hook(call: Call) -> dict[str, Any]:
        hook: Hook = await hooks.get(call.caller.tenant, call.path["hookId"])
        if call.query.get("template", "").lower() != "true":
            return wire.hook(hook)
        return wire.hook(hook) | {"templates": wire.templates([hook.template]), "groupings": groupings}

    async def create_hook(call: Call) -> dict[str, Any]:
        created = await hooks.create(call.caller.tenant, call.json())
        shown_once = {} if created.secret is None else {"secret": created.secret}
        return {"resourceId": created.hook.id} | shown_once

    async def update_hook(call: Call) -> dict[str, Any]:
        hook, changed = await hooks.update(call.caller.tenant, call.path["hookId"], call.json())
        return {"resourceId": hook.id, "changes": wire.changes(changed)}

    async def delete_hook(call: Call) -> dict[str, Any]:
        hook = await hooks.delete(call.caller.tenant, call.path["hookId"])
        return {"resourceId": hook.id}

    commands = {"pause": hooks.pause, "resume": hooks.resume, "enable": hooks.enable}

    async def command(call: Call) -> dict[str, Any]:
        run = commands.get(call.query.get("command", ""))
        if run is None:
            raise unsupported_command(call, commands)
        hook = await run(call.caller.tenant, call.path["hookId"])
        return {"resourceId": hook.id}

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
            permission="UPDATE_HOOK",
            summary="Commands: pause, resume, enable",
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
