"""Lending put together: the routes of products, charges and loans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embarc.sandbox import charges, loan_charges, loan_commands, loan_products, loan_transactions, loans
from embarc.web.routes import Route

if TYPE_CHECKING:
    from embarc.sandbox.application import Sandbox


def lending_routes(sandbox: Sandbox) -> list[Route]:
    """Every route of lending."""
    return [
        *loan_products.routes(sandbox),
        *charges.routes(sandbox),
        *loans.routes(sandbox),
        *loan_commands.routes(sandbox),
        *loan_transactions.routes(sandbox),
        *loan_charges.routes(sandbox),
    ]
