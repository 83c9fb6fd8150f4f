"""Operators: the people who sign in to this service. (The lending platform's own users are its business.)

Nobody gives more than they have, nor changes somebody who has more: else whoever may set passwords could become anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from embarc.core.access import ALL_FUNCTIONS, Caller, User
from embarc.core.errors import Duplicate, Forbidden, NotFound, RuleViolation
from embarc.engine.access import Access
from embarc.store.base import Store


class Operators:
    """Makes, changes and removes them; all of it takes effect at once in this process, within a minute in others."""

    def __init__(self, store: Store, access: Access) -> None:
        self._store = store
        self._access = access

    async def list(self, tenant: str) -> Sequence[User]:
        """The tenant's operators by name."""
        return await self._store.list_users(tenant)

    async def get(self, tenant: str, operator_id: str) -> User:
        """One of them; raises `NotFound`."""
        for user in await self._store.list_users(tenant):
            if str(user.id) == operator_id:
                return user
        raise NotFound.resource(
            "error.msg.operator.identifier.not.found",
            f"Operator with identifier `{operator_id[:50]}` does not exist",
            operator_id[:50],
        )

    async def create(
        self,
        caller: Caller,
        *,
        username: str,
        full_name: str,
        office_id: int,
        permissions: frozenset[str],
        password: str,
    ) -> User:
        """A new operator of the caller's tenant; raises `Forbidden` and `Duplicate`."""
        _check_may(caller, permissions)
        user = await self._store.add_user(
            User(
                tenant=caller.tenant,
                id=0,
                username=username,
                full_name=full_name,
                office_id=office_id,
                permissions=permissions,
                password_hash=await self._access.hash_password(password),
            )
        )
        if user is None:
            raise Duplicate(f"There is an operator `{username}` already.")
        return user

    async def update(
        self,
        caller: Caller,
        before: User,
        *,
        full_name: str | None = None,
        office_id: int | None = None,
        permissions: frozenset[str] | None = None,
        password: str | None = None,
    ) -> User:
        """The operator with what is given changed; raises `Forbidden`, `RuleViolation` and `NotFound`."""
        _check_may(caller, before.permissions | (permissions or frozenset()))
        if permissions is not None and ALL_FUNCTIONS not in permissions:
            await self._check_not_the_last(before)
        after = replace(
            before,
            full_name=before.full_name if full_name is None else full_name,
            office_id=before.office_id if office_id is None else office_id,
            permissions=before.permissions if permissions is None else permissions,
            password_hash=before.password_hash
            if password is None
            else await self._access.hash_password(password),
        )
        if not await self._store.replace_user(after):
            await self.get(before.tenant, str(before.id))  # raises: it was removed meanwhile
        self._access.forget()
        return after

    async def remove(self, caller: Caller, user: User) -> None:
        """Let this operator sign in no more; raises `Forbidden` and `RuleViolation`."""
        _check_may(caller, user.permissions)
        await self._check_not_the_last(user)
        await self._store.remove_user(user.tenant, user.id)
        self._access.forget()

    async def _check_not_the_last(self, user: User) -> None:
        others = [one for one in await self._store.list_users(user.tenant) if one.id != user.id]
        if ALL_FUNCTIONS in user.permissions and not any(ALL_FUNCTIONS in one.permissions for one in others):
            raise RuleViolation.rule(
                "error.msg.operator.is.the.last.administrator",
                f"`{user.username}` is the last administrator. Make another one first.",
                value=user.id,
            )


def _check_may(caller: Caller, permissions: Iterable[str]) -> None:
    beyond = sorted(one for one in permissions if not caller.may(one))
    if beyond:
        raise Forbidden(
            f"Nobody gives more than they have, or changes somebody who has more: {', '.join(beyond)}."
        )
