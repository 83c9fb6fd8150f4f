"""What the Mifos X web application asks of a Fineract on every page, beside hooks and sign-in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from embarc.web.routes import Call, Route

_BUSINESS_DATE = "enable-business-date"


def routes() -> list[Route]:
    """The routes that answer it: there is no business date beside the calendar's, and there are no notifications."""

    async def configuration(call: Call) -> dict[str, Any]:
        return {"name": _BUSINESS_DATE, "enabled": False, "value": 0, "id": 1}

    async def notifications(call: Call) -> dict[str, Any]:
        return {"totalFilteredRecords": 0, "pageItems": []}

    async def business_date(call: Call) -> dict[str, Any]:
        today = datetime.now(UTC).date()
        return {
            "description": "Business Date",
            "type": "BUSINESS_DATE",
            "date": [today.year, today.month, today.day],
        }

    return [
        Route(
            method="GET",
            path=f"/configurations/name/{_BUSINESS_DATE}",
            handler=configuration,
            permission="READ_CONFIGURATION",
            summary=f"Fineract's setting `{_BUSINESS_DATE}`, which is off",
            tag="mifos",
        ),
        Route(
            method="GET",
            path="/notifications",
            handler=notifications,
            permission="READ_NOTIFICATION",
            summary="None: Embarc tells by events",
            tag="mifos",
            query=tuple((name, "as in Fineract") for name in ("isRead", "offset", "limit")),
        ),
        Route(
            method="GET",
            path="/businessdate/BUSINESS_DATE",
            handler=business_date,
            permission="READ_BUSINESS_DATE",
            summary="Today, UTC",
            tag="mifos",
        ),
    ]
