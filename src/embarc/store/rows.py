"""Rows into core values and back, the same for both stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from embarc.core.access import ApiKey, AuditEntry, AuditHead, User
from embarc.core.attempts import Attempt, Outcome, Result
from embarc.core.catalogue import Entry
from embarc.core.deliveries import Settlement, State, Traffic
from embarc.core.events import Event, EventKind
from embarc.core.hook_config import SECRET_FIELDS
from embarc.core.hooks import Endpoint, Hook, SigningSecret
from embarc.core.inlets import Inlet
from embarc.core.replays import ReplayJob, ReplayState, Selection
from embarc.store.base import DataKey, DeliveryRecord, EventRecord, Sealed
from embarc.store.vault import Vault

Row = Sequence[Any]

_encode = msgspec.json.encode
_decode = msgspec.json.decode


class HookRows:
    """Hooks as rows: the secrets sealed, the configuration parsed once when it is read."""

    def __init__(self, vault: Vault, parse_endpoint: Callable[[dict[str, str]], Endpoint]) -> None:
        self._vault = vault
        self._parse_endpoint = parse_endpoint

    def to_hook(self, row: Row) -> Hook:
        """The hook of one row of `get_hook` or `list_hooks`."""
        config: dict[str, str] = _decode(row[8])
        sealed = _decode(self._vault.open(row[9], row[1], "hooks", row[0], "secrets"))
        if isinstance(sealed, list):  # as the first version wrote them
            sealed = {"signing": [(text, None) for text in sealed], "key": "", "credentials": {}}
        credentials: dict[str, str] = sealed["credentials"]
        for name in SECRET_FIELDS & config.keys():  # written when it was not a secret yet
            credentials[name] = config.pop(name)
        return Hook(
            id=row[0],
            tenant=row[1],
            template=row[2],
            name=row[3],
            display_name=row[4],
            is_active=bool(row[5]),
            is_paused=bool(row[6]),
            subscriptions=tuple(EventKind(entity, action) for entity, action in _decode(row[7])),
            config=config,
            endpoint=self._parse_endpoint(config | credentials),
            secrets=tuple(SigningSecret(text, expires_at_ms) for text, expires_at_ms in sealed["signing"]),
            signing_key=sealed["key"],
            credentials=credentials,
            version=row[10],
            created_at_ms=row[11],
            updated_at_ms=row[12],
            failing_since_ms=row[13],
            inactive_since_ms=row[14],
            inactive_because=row[15],
        )

    def values(self, hook: Hook) -> tuple[Any, ...]:
        """The columns template, name, ..., config, failing_since_ms, inactive_since_ms, inactive_because."""
        return (
            hook.template,
            hook.name,
            hook.display_name,
            hook.is_active,
            hook.is_paused,
            _encode([(kind.entity_name, kind.action_name) for kind in hook.subscriptions]).decode(),
            _encode(dict(hook.config)).decode(),
            hook.failing_since_ms,
            hook.inactive_since_ms,
            hook.inactive_because,
        )

    def sealed_secrets(self, hook: Hook, hook_id: int) -> bytes:
        """The column sealed_secrets, bound to this row."""
        sealed = {
            "signing": [(secret.text, secret.expires_at_ms) for secret in hook.secrets],
            "key": hook.signing_key,
            "credentials": dict(hook.credentials),
        }
        return self._vault.seal(_encode(sealed), hook.tenant, "hooks", hook_id, "secrets")


def to_event_record(row: Row) -> EventRecord:
    """The event of one row of `get_event` or `list_events`."""
    event = Event(
        tenant=row[0],
        key=bytes(row[1]),
        kind=EventKind(row[2], row[3]),
        entity_id=row[4],
        timestamp_ms=row[5],
        payload=bytes(row[7]),
    )
    return EventRecord(event=event, accepted_at_ms=row[6])


def to_delivery_record(row: Row) -> DeliveryRecord:
    """The delivery of one row of `get_delivery` or `list_deliveries`."""
    return DeliveryRecord(
        tenant=row[0],
        event_key=bytes(row[1]),
        hook_id=row[2],
        kind=EventKind(row[3], row[4]),
        entity_id=row[5],
        state=State(row[6]),
        attempts=row[7],
        failures=row[8],
        due_at_ms=row[9],
        accepted_at_ms=row[10],
        settled_at_ms=row[11],
        is_replay=row[12] == Traffic.REPLAY,
        reason=row[13],
        behind=None if row[14] is None else bytes(row[14]),
    )


def attempt_values(settlement: Settlement) -> tuple[Any, ...]:
    """The columns of `insert_attempt`."""
    claim, attempt = settlement.claim, settlement.attempt
    outcome = attempt.outcome
    return (
        claim.tenant,
        claim.event_key,
        claim.hook_id,
        attempt.number,
        attempt.started_at_ms,
        attempt.url,
        attempt.worker,
        outcome.result.value,
        outcome.status,
        outcome.duration_ms,
        outcome.detail,
        outcome.head,
        outcome.body,
        _encode(outcome.phases_ms).decode() if outcome.phases_ms else "[]",
    )


def to_attempt(row: Row) -> Attempt:
    """The attempt of one row of `list_attempts`."""
    return Attempt(
        number=row[0],
        started_at_ms=row[1],
        url=row[2],
        worker=row[3],
        outcome=Outcome(
            result=Result(row[4]),
            status=row[5],
            duration_ms=row[6],
            detail=row[7],
            head=bytes(row[8]),
            body=bytes(row[9]),
            phases_ms=tuple((name, ms) for name, ms in _decode(row[10])),
        ),
    )


def to_replay(row: Row) -> ReplayJob:
    """The job of one row of `get_replay`, `list_replays` or `running_replays`."""
    return ReplayJob(
        tenant=row[0],
        key=bytes(row[1]),
        selection=_decode(row[3], type=Selection),
        state=ReplayState(row[4]),
        reached=bytes(row[5]),
        queued=row[6],
        created_by=row[7],
        created_at_ms=row[8],
        finished_at_ms=row[9],
    )


def to_data_key(row: Row) -> DataKey:
    """The key of one row of `list_data_keys`."""
    return DataKey(
        tenant=row[0],
        key_id=bytes(row[1]),
        wrapped=bytes(row[2]),
        wrapped_by=row[3],
        created_at_ms=row[4],
        is_retired=bool(row[5]),
    )


def to_sealed(row: Row) -> Sealed:
    """The value of one row of `list_stale_seals`."""
    return Sealed(tenant=row[0], table=row[1], row=row[2], column=row[3], value=bytes(row[4]))


def to_user(row: Row) -> User:
    """The user of one row of `get_user` or `list_users`."""
    return User(
        id=row[0],
        tenant=row[1],
        username=row[2],
        full_name=row[3],
        office_id=row[4],
        permissions=frozenset(_decode(row[5])),
        password_hash=row[6],
    )


def to_api_key(row: Row) -> ApiKey:
    """The key of one row of `get_api_key` or `list_api_keys`."""
    return ApiKey(
        tenant=row[0],
        key_id=row[1],
        name=row[2],
        digest=bytes(row[3]),
        permissions=frozenset(_decode(row[4])),
        created_by=row[5],
        created_at_ms=row[6],
        expires_at_ms=row[7],
        last_used_at_ms=row[8],
        revoked_at_ms=row[9],
    )


def audit_values(entry: AuditEntry) -> tuple[Any, ...]:
    """The columns of `insert_audit`."""
    return (
        entry.tenant,
        entry.number,
        entry.at_ms,
        entry.username,
        entry.action,
        entry.resource_id,
        entry.before,
        entry.after,
        entry.digest,
    )


def to_audit(row: Row) -> AuditEntry:
    """The entry of one row of `list_audits` or `all_audits`."""
    return AuditEntry(
        tenant=row[0],
        number=row[1],
        at_ms=row[2],
        username=row[3],
        action=row[4],
        resource_id=row[5],
        before=row[6],
        after=row[7],
        digest=bytes(row[8]),
    )


def to_audit_head(row: Row) -> AuditHead:
    """The head of one row of `list_audit_heads`."""
    return AuditHead(tenant=row[0], number=row[1], digest=bytes(row[2]), signature=bytes(row[3]))


def to_kind(row: Row) -> Entry:
    """The entry of one row of `list_kinds`."""
    return Entry(kind=EventKind(row[0], row[1]), grouping=row[2], description=row[3], sample=bytes(row[4]))


def to_inlet(row: Row) -> Inlet:
    """The inlet of one row of `get_inlet` or `list_inlets`."""
    return Inlet(
        id=row[0],
        tenant=row[1],
        name=row[2],
        digest=bytes(row[3]),
        forwards_failures=bool(row[4]),
        created_by=row[5],
        created_at_ms=row[6],
    )
