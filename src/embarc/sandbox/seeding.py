"""What a new sandbox has: the head office, the first user, roles, and the codes that the life cycle asks for."""

from __future__ import annotations

from datetime import date

from sqlalchemy.orm import Session

from embarc.sandbox.tables import Code, CodeValue, Office, Role, User
from embarc.sandbox.users import FIRST_USER

HEAD_OFFICE = 1
_TENANT = "default"
_ROLES = {
    "Super user": "This role provides all application permissions.",
    "Loan officer": "Looks after clients and their loans.",
}
_CODES = {
    "ClientClosureReason": ("Moved away", "No further business", "Deceased", "Duplicate"),
    "ClientRejectReason": ("Incomplete documents", "Failed checks", "Over-indebted"),
    "ClientWithdrawReason": ("Changed mind", "Chose another lender", "No longer needs credit"),
    "Gender": ("Female", "Male", "Other"),
    "ClientType": ("Individual", "Business"),
    "ClientClassification": ("New", "Returning"),
}


def seed(session: Session) -> None:
    """Fill a new database; one that has its head office is left as it is."""
    if session.get(Office, HEAD_OFFICE) is not None:
        return
    opened = date(2009, 1, 1)
    session.add(
        Office(id=HEAD_OFFICE, tenant=_TENANT, name="Head Office", opening_date=opened, hierarchy=".")
    )
    session.flush()
    roles = [Role(tenant=_TENANT, name=name, description=text) for name, text in _ROLES.items()]
    for role in roles:  # one by one, so that ids follow the order above
        session.add(role)
        session.flush()
    session.add(
        User(
            id=FIRST_USER,
            tenant=_TENANT,
            office_id=HEAD_OFFICE,
            username="admin",
            firstname="App",
            lastname="Administrator",
            roles=roles[:1],
        )
    )
    for name, values in _CODES.items():
        code = Code(tenant=_TENANT, name=name, is_system_defined=True)
        session.add(code)
        session.flush()
        for position, value in enumerate(values, start=1):
            session.add(
                CodeValue(
                    tenant=_TENANT,
                    code_id=code.id,
                    name=value,
                    position=position,
                    is_active=True,
                    is_mandatory=False,
                )
            )
            session.flush()
