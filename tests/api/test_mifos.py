"""The Mifos X web application's journey through hooks, call by call as it makes them, from an origin of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from embarc.app import Service
from embarc.core.errors import SettingsError
from embarc.observe import Observer
from embarc.settings import load_settings
from embarc.testing.asgi import Answer, Client

from .conftest import CHEAP_HASH, PASSWORD

BASE = "/fineract-provider/api/v1"
ORIGIN = "https://mifos.example.com"
URL = "https://receiver.example.com/hooks/"
EVENTS = [{"entityName": "CLIENT", "actionName": "CREATE"}]


async def opened(folder: Path, origins: str) -> Service:
    settings = load_settings(
        {"EMBARC_CORS_ORIGINS": origins},
        overrides={"store": f"sqlite:///{folder / 'embarc.db'}", "sandbox": True},
        directory=folder,
    )
    service = await Service.open(settings, Observer(), on_broken=pytest.fail)
    await service.access.add_admin(CHEAP_HASH)
    await service.start()
    return service


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    service = await opened(tmp_path, ORIGIN)
    yield Client(service.app, "admin", PASSWORD)
    await service.stop()


class MifosApp:
    """Angular's client: every request that needs it is preceded by the browser's preflight."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.authorization: str | None = None

    async def call(self, method: str, path: str, body: object = None) -> Answer:
        needed = ["fineract-platform-tenantid"] + (["authorization"] if self.authorization else [])
        needed += ["content-type"] if body is not None else []
        preflight = await self._client.call(
            "OPTIONS",
            f"{BASE}/{path}",
            authorization=None,
            content_type=None,
            origin=ORIGIN,
            access_control_request_method=method,
            access_control_request_headers=",".join(sorted(needed)),
        )
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        assert method in preflight.headers["access-control-allow-methods"].split(", ")
        allowed = preflight.headers["access-control-allow-headers"].lower().split(", ")
        assert set(needed) <= set(allowed)
        answer = await self._client.call(
            method,
            f"{BASE}/{path}",
            body,
            accept="application/json, text/plain, */*",
            origin=ORIGIN,
            referer=ORIGIN + "/",
            authorization=self.authorization,
            content_type=None if body is None else "application/json",
            fineract_platform_tenantid="default",
        )
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["vary"] == "Origin"
        assert answer.headers["content-type"] == "application/json"
        return answer

    async def ok(self, method: str, path: str, body: object = None) -> Any:
        answer = await self.call(method, path, body)
        assert answer.status == 200, answer.body
        return answer.json


async def test_the_web_application_walks_its_whole_way(client: Client) -> None:
    app = MifosApp(client)

    wrong = await app.call("POST", "authentication", {"username": "admin", "password": "nope"})
    user = await app.ok("POST", "authentication", {"username": "admin", "password": PASSWORD})
    app.authorization = f"Basic {user['base64EncodedAuthenticationKey']}"

    assert wrong.status == 401
    assert wrong.json["errors"][0]["defaultUserMessage"]
    assert user["username"] == "admin"
    assert user["userId"] > 0
    assert user["authenticated"] is True
    assert (user["officeId"], user["officeName"]) == (1, "Head Office")
    assert [set(role) for role in user["roles"]] == [{"id", "name", "description"}]
    assert user["permissions"] == ["ALL_FUNCTIONS"]
    assert user["shouldRenewPassword"] is False
    assert user["isTwoFactorAuthenticationRequired"] is False

    today = datetime.now(UTC).date()
    setting = await app.ok("GET", "configurations/name/enable-business-date")
    assert setting == {"name": "enable-business-date", "enabled": False, "value": 0, "id": 1}
    unread = await app.ok("GET", "notifications?isRead=false&offset=0&limit=7")
    assert unread == {"totalFilteredRecords": 0, "pageItems": []}
    date = (await app.ok("GET", "businessdate/BUSINESS_DATE"))["date"]
    assert date in ([today.year, today.month, today.day], _today())
    (office,) = await app.ok("GET", "offices?orderBy=id")
    assert set(office) == {"id", "name", "nameDecorated", "externalId", "openingDate", "hierarchy"}
    clients = await app.ok("GET", "clients?orderBy=displayName&sortOrder=ASC&offset=0&limit=50")
    assert clients["totalFilteredRecords"] == 0

    assert await app.ok("GET", "hooks") == []
    template = await app.ok("GET", "hooks/template")
    assert "Web" in [one["name"] for one in template["templates"]]
    (portfolio,) = [group for group in template["groupings"] if group["name"] == "portfolio"]
    (entity,) = [one for one in portfolio["entities"] if one["name"] == "CLIENT"]
    assert "CREATE" in entity["actions"]

    config = {"Payload URL": URL, "Content Type": "json"}
    form = {"name": "Web", "isActive": "", "displayName": "Kremlin", "events": EVENTS, "config": config}
    created = await app.ok("POST", "hooks", form)
    also = await app.ok("POST", "hooks", form | {"isActive": None})
    path = f"hooks/{created['resourceId']}"
    hook = await app.ok("GET", path)
    assert (hook["name"], hook["displayName"], hook["isActive"]) == ("Web", "Kremlin", False)
    assert hook["config"][0]["fieldValue"] == "json"
    assert hook["config"][1]["fieldValue"] == URL
    assert hook["createdAt"] in ([today.year, today.month, today.day], _today())
    assert hook["updatedAt"] == hook["createdAt"]
    assert hook["events"] == EVENTS

    await app.ok("GET", f"{path}?template=true")
    more = [*EVENTS, {"entityName": "LOAN", "actionName": "APPROVE"}]
    change = {"displayName": "Palace", "isActive": True, "events": more, "config": config}
    assert set((await app.ok("PUT", path, change))["changes"]) == {"displayName", "isActive", "events"}
    listed = await app.ok("GET", "hooks")
    assert [(one["name"], one["displayName"], one["isActive"]) for one in listed] == [
        ("Web", "Kremlin", False),
        ("Web", "Palace", True),
    ]

    bad = await app.call("PUT", path, change | {"config": config | {"Payload URL": "abc"}})
    assert bad.status == 400
    assert "URL" in bad.json["errors"][0]["defaultUserMessage"]

    assert await app.ok("DELETE", path) == {"resourceId": created["resourceId"]}
    await app.ok("DELETE", f"hooks/{also['resourceId']}")
    gone = await app.call("GET", path)
    assert gone.status == 404
    assert gone.json["errors"][0]["defaultUserMessage"].endswith("does not exist")
    for unknown in ("configurations/name/amazon-S3", "runreports/portfolio", "search/template"):
        answer = await app.call("GET", unknown)
        assert answer.status == 404
        assert answer.json["errors"][0]["developerMessage"]


def _today() -> list[int]:
    today = datetime.now(UTC).date()
    return [today.year, today.month, today.day]


async def test_signing_in_for_another_tenant_is_refused(client: Client) -> None:
    body = {"username": "admin", "password": PASSWORD}

    answer = await client.call("POST", "authentication", body, fineract_platform_tenantid="acme")

    assert (answer.status, answer.codes) == (401, ["error.msg.not.authenticated"])


# -- origins ---------------------------------------------------------------------------------------------------

PREFLIGHT = {
    "access_control_request_method": "PUT",
    "access_control_request_headers": "authorization",
    "authorization": None,
}


def permissions(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


async def test_another_origin_gets_no_permission_and_no_cache_mixes_them_up(client: Client) -> None:
    for origin in ("https://evil.example.com", "null", "https://mifos.example.com.evil.com", ORIGIN + "/"):
        preflight = await client.call("OPTIONS", "hooks", origin=origin, **PREFLIGHT)
        answer = await client.call("GET", "hooks", origin=origin)

        assert preflight.status == 405
        assert permissions(preflight) == permissions(answer) == {}
        assert preflight.headers["vary"] == answer.headers["vary"] == "Origin"


async def test_an_allowed_origin_is_named_with_credentials_and_never_as_a_star(client: Client) -> None:
    preflight = await client.call("OPTIONS", "hooks", origin=ORIGIN, **PREFLIGHT)
    answer = await client.call("POST", "events", {"entityName": "?"}, origin=ORIGIN)

    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-request-headers" in preflight.headers["vary"].lower()
    assert preflight.body == b""
    assert answer.status == 400
    assert permissions(answer)["access-control-allow-origin"] == ORIGIN


async def test_what_is_not_the_api_is_nobody_elses(client: Client) -> None:
    assert permissions(await client.call("GET", "/metrics", origin=ORIGIN)) == {}


async def test_a_star_allows_anybody_and_no_credentials_of_the_browsers(tmp_path: Path) -> None:
    service = await opened(tmp_path, "*")
    client = Client(service.app, "admin", PASSWORD)

    preflight = await client.call("OPTIONS", "hooks", origin="https://any.example.com", **PREFLIGHT)
    answer = await client.call("GET", "hooks", origin="https://any.example.com")
    await service.stop()

    for one in (preflight, answer):
        assert permissions(one)["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in permissions(one)


async def test_without_the_setting_no_page_of_another_origin_is_let_in(tmp_path: Path) -> None:
    service = await opened(tmp_path, "")
    client = Client(service.app, "admin", PASSWORD)

    preflight = await client.call("OPTIONS", "hooks", origin=ORIGIN, **PREFLIGHT)
    answer = await client.call("GET", "hooks", origin=ORIGIN)
    await service.stop()

    assert preflight.status == 405
    assert permissions(preflight) == permissions(answer) == {}
    assert "vary" not in answer.headers


@pytest.mark.parametrize(
    "origin", ["mifos.example.com", ORIGIN + "/", "https://*.example.com", "null", "HTTPS://X"]
)
def test_an_origin_that_no_browser_sends_is_refused_at_the_start(tmp_path: Path, origin: str) -> None:
    with pytest.raises(SettingsError, match="cors_origins"):
        load_settings({"EMBARC_CORS_ORIGINS": origin}, directory=tmp_path)
