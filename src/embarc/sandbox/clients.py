"""The routes of clients: by id, and by external id where the platform's own is what the caller knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from embarc.sandbox import client_commands, client_details, client_views
from embarc.sandbox.client_life import TRANSITIONS
from embarc.web.routes import Call, Handler, Route, unsupported_command

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox, Work

_COMMANDS: dict[str, Callable[[Work], dict[str, Any]]] = {
    **{
        transition.command: client_commands.running(transition)
        for transition in TRANSITIONS
        if transition.target is not None
    },
    "assignStaff": client_commands.assign_staff,
    "unassignStaff": client_commands.unassign_staff,
}
_DELETE = client_commands.running(next(one for one in TRANSITIONS if one.target is None))

_CREATE = {
    "firstname": "Alice",
    "lastname": "Martinez",
    "externalId": "CUST-2025-001",
    "submittedOnDate": "13 October 2025",
    "dateFormat": "dd MMMM yyyy",
    "locale": "en",
}
_COMMAND = {"activationDate": "14 October 2025", "dateFormat": "dd MMMM yyyy", "locale": "en"}


def routes(sandbox: Sandbox) -> list[Route]:
    """The routes of clients."""

    async def command(call: Call) -> dict[str, Any]:
        run = _COMMANDS.get(call.query.get("command", ""))
        if run is None:
            raise unsupported_command(call, list(_COMMANDS))
        return await sandbox.command(call, run)

    def commanding(run: Callable[[Work], dict[str, Any]]) -> Handler:
        async def handler(call: Call) -> dict[str, Any]:
            return await sandbox.command(call, run)

        return handler

    def asking(ask: Callable[[Work], dict[str, Any]]) -> Handler:
        async def handler(call: Call) -> dict[str, Any]:
            return await sandbox.query(call, ask)

        return handler

    found = [
        Route(
            method="POST",
            path="/clients",
            handler=commanding(client_details.create),
            permission="CREATE_CLIENT",
            summary="Create a client; emits CLIENT.CREATE",
            tag="sandbox",
            body=_CREATE,
        ),
        Route(
            method="GET",
            path="/clients",
            handler=asking(client_views.page),
            permission="READ_CLIENT",
            summary="List clients",
            tag="sandbox",
            query=client_views.PAGE_QUERY,
        ),
        Route(
            method="GET",
            path="/clients/template",
            handler=asking(client_views.template),
            permission="READ_CLIENT",
            summary="What a form for a new client, or for one of its commands, needs",
            tag="sandbox",
            query=client_views.TEMPLATE_QUERY,
        ),
    ]
    for path in ("/clients/{clientId}", "/clients/external-id/{externalId}"):
        found += [
            Route(
                method="GET",
                path=path,
                handler=asking(client_views.one),
                permission="READ_CLIENT",
                summary="One client",
                tag="sandbox",
            ),
            Route(
                method="PUT",
                path=path,
                handler=commanding(client_details.update),
                permission="UPDATE_CLIENT",
                summary="Change a client; emits CLIENT.UPDATE",
                tag="sandbox",
                body={"mobileNo": "+254700000000"},
            ),
            Route(
                method="DELETE",
                path=path,
                handler=commanding(_DELETE),
                permission="DELETE_CLIENT",
                summary="Delete a client that is pending; emits CLIENT.DELETE",
                tag="sandbox",
            ),
            Route(
                method="POST",
                path=path,
                handler=command,
                permission="OPERATE_CLIENT",
                summary=f"Commands: {', '.join(_COMMANDS)}; each emits its event",
                tag="sandbox",
                body=_COMMAND,
                query=(("command", ", ".join(_COMMANDS)),),
            ),
        ]
    return found
