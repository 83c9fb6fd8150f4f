"""The seam to durable memory: what Embarc asks of a store, verb by verb.

Two stores keep these contracts, and one test suite (`tests/contracts`) holds both to them. Stores compare and
move; they decide nothing: matching, retry times and verdicts come in as values.

Rules for every verb:
* It returns after its transaction is durable, or raises; what raised left nothing behind.
* `StoreUnavailable` means that the store cannot commit now and the same call may be made again.
* Durations come in, instants are the store's own: due times and leases go by one clock, the store's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from embarc.core.access import ApiKey, AuditEntry, User
from embarc.core.attempts import Attempt
from embarc.core.catalogue import Entry
from embarc.core.deliveries import Claim, Settlement, State, Traffic
from embarc.core.events import Event, EventKind
from embarc.core.hooks import Hook
from embarc.core.inlets import Inlet
from embarc.core.members import Attendance, Member
from embarc.core.replays import ReplayJob, Selection
from embarc.core.submissions import Receipt
from embarc.core.values import value

PAGE_LIMIT = 200
"""The most rows of one page."""


@value
class NewDelivery:
    """A delivery to make with an event. With a lease token it is born claimed by the process that publishes."""

    hook_id: int
    lease_token: int | None = None
    order_key: str | None = None
    """Deliveries of one hook with one key go strictly in the order of acceptance; None: in any order."""


@value
class Publication:
    """Matched events, accepted together or not at all. With a key, only once."""

    tenant: str
    events: tuple[tuple[Event, tuple[NewDelivery, ...]], ...]
    idempotency_key: str | None = None
    fingerprint: bytes = b""
    revision: int | None = None
    """The `hooks_revision` that the events were matched under; None: whatever it is now."""


@dataclass(frozen=True, slots=True)
class Stale:
    """The hooks have changed since the events were matched. Nothing was published; match again and try again."""

    revision: int
    """The revision now."""


@dataclass(frozen=True, slots=True)
class TimestampTaken:
    """An event's (entity, timestamp) exists. Nothing was published; try again above `latest_ms`."""

    position: int
    """Which of the publication's events."""
    latest_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A hook with waiting deliveries of one class, and the seconds until the earliest is due (zero or less: now)."""

    hook_id: int
    traffic: Traffic
    in_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    """A delivery as the log shows it."""

    tenant: str
    event_key: bytes
    hook_id: int
    kind: EventKind
    entity_id: str | None
    state: State
    attempts: int
    failures: int
    due_at_ms: int | None
    accepted_at_ms: int
    settled_at_ms: int | None
    is_replay: bool
    reason: str
    behind: bytes | None = None
    """The event whose delivery has to end before this one may be tried, where the hook asked for order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """An event as the log shows it."""

    event: Event
    accepted_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An event that a replay may be about, and the state of its delivery to the replay's hook, None where there is none."""

    event_key: bytes
    kind: EventKind
    entity_id: str | None
    state: State | None
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events to list; None means any."""

    entity_name: str | None = None
    action_name: str | None = None
    entity_id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries to list; None means any. Times are those of the event's acceptance."""

    state: State | None = None
    hook_id: int | None = None
    event_key: bytes | None = None
    entity_name: str | None = None
    action_name: str | None = None
    entity_id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """A key that seals what is one tenant's, as it lies in the store: wrapped by the installation's key."""

    tenant: str
    key_id: bytes
    wrapped: bytes = field(repr=False)
    wrapped_by: str
    """The id of the installation's key."""
    created_at_ms: int = 0
    is_retired: bool = False
    """Nothing is sealed with it any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A sealed value and its place."""

    tenant: str
    table: str
    row: int | str
    column: str
    value: bytes = field(repr=False)


class DataKeys(Protocol):
    """The part of a store that `Vault` asks for: wrapped keys, and what lies sealed with them.

    Every table with a sealed column is named in `list_stale_seals`, `replace_seal` and `remove_retired_data_keys`.
    """

    async def list_data_keys(self) -> Sequence[DataKey]:
        """All of them, by tenant, retired ones too."""
        ...

    async def add_data_key(self, key: DataKey) -> bool:
        """Store a tenant's first data key, with the store's time. False, and nothing done, where the tenant has one that is
        in force, or where the others are wrapped by another key than this one is: then it was rotated meanwhile.

        With the installation's own (tenant ``""``) the heads of audit logs that are not signed yet are signed.
        """
        ...

    async def rewrap_data_keys(self, keys: Sequence[DataKey]) -> bool:
        """Replace `wrapped` and `wrapped_by` of all data keys in one transaction; False, with nothing done, where these are
        not exactly those that are there."""
        ...

    async def succeed_data_keys(self, keys: Sequence[DataKey]) -> None:
        """Let each of these take the place of its tenant's key, which is retired; one transaction."""
        ...

    async def list_stale_seals(self, *, limit: int) -> Sequence[Sealed]:
        """Values whose data key (bytes 2 to 9) is retired or unknown: what an older format sealed is among them."""
        ...

    async def replace_seal(self, sealed: Sealed, value: bytes) -> bool:
        """Put the value in the place of what is there; False where that is not `sealed.value` any more."""
        ...

    async def remove_retired_data_keys(self) -> int:
        """Delete retired data keys that nothing is sealed with; returns how many."""
        ...


class Store(DataKeys, Protocol):
    """Durable memory."""

    # -- the queue ---------------------------------------------------------------------------------------------

    async def publish(
        self, publication: Publication, *, lease_seconds: float
    ) -> Receipt | TimestampTaken | Stale:
        """Write events and their deliveries in one transaction, shared with whoever else is waiting.

        A delivery without a token is due now; with one, at the end of the lease. A known idempotency key
        with the same fingerprint returns the first receipt with `duplicate` set and writes nothing; with
        another fingerprint it raises `IdempotencyMismatch`. Of two events with one (tenant, entity name,
        entity id, timestamp) the second is refused as `TimestampTaken`, and its whole publication with it.
        One that was matched under another revision of the hooks than the present one is refused as `Stale`.
        """
        ...

    async def due(self) -> Sequence[Due]:
        """Every hook that has waiting deliveries, by class of traffic. Costs a few microseconds a hook, whatever the backlog."""
        ...

    async def claim(
        self, wanted: Mapping[tuple[int, Traffic], int], *, lease_seconds: float, lease_token: int
    ) -> Sequence[Claim]:
        """Take due deliveries: of each hook and class the earliest due, at most as many as wanted.

        "Due exactly now" is due. A delivery whose earlier lease has run out is taken too: an attempt with
        the result `lost` is recorded for it, because that process may have sent it. No delivery is given
        to two claims whose leases overlap. Of those with one order key only the earliest is given, and none
        while an earlier one is waiting, leased or exhausted.
        """
        ...

    async def renew(self, claims: Sequence[Claim], *, lease_seconds: float) -> Sequence[Claim]:
        """Let these leases end `lease_seconds` from now; returns the claims that were no longer ours."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[bool]:
        """Record each attempt and move its delivery, if the lease token is still the delivery's; one transaction.

        False at a position means that lease was lost: somebody else owns the delivery, and nothing was
        written for it. A settlement that is repeated because the first call failed may find itself recorded: True.
        """
        ...

    async def surrender(self, claims: Sequence[Claim]) -> int:
        """Give back claims that were not attempted: due now, without a trace. Returns how many were still ours."""
        ...

    async def cancel(self, tenant: str, event_key: bytes, hook_id: int, reason: str) -> bool:
        """Cancel a waiting delivery, leased or not, or an exhausted one, which may hold others up; else False.

        The settlement of an attempt that is running fails.
        """
        ...

    async def replay(self, tenant: str, event_key: bytes, hook_id: int) -> bool:
        """Make a delivery due now with all its retries, whatever its state; False where there is none.

        One that somebody holds a lease on stays as it is: it is on its way.
        """
        ...

    # -- hooks -------------------------------------------------------------------------------------------------

    async def add_hook(self, hook: Hook) -> Hook:
        """Store a new hook; the returned one has its id, its version 1 and its times."""
        ...

    async def replace_hook(self, hook: Hook) -> Hook | None:
        """Replace what is stored under (tenant, id), version and update time raised; None where it does not exist."""
        ...

    async def remove_hook(self, tenant: str, hook_id: int) -> Hook | None:
        """Delete the hook; returns what it was, or None. `cancel_orphans` cancels what waits for it."""
        ...

    async def set_failing_since(self, tenant: str, hook_id: int, since_ms: int | None) -> bool:
        """Remember since when the hook's endpoint fails, or that it works; False where there is no such hook."""
        ...

    async def get_hook(self, tenant: str, hook_id: int) -> Hook | None:
        """The hook, or None."""
        ...

    async def list_hooks(self, tenant: str | None = None) -> Sequence[Hook]:
        """All hooks of a tenant, or of everybody, by display name."""
        ...

    async def hooks_revision(self) -> int:
        """A number that is another one after every change of a hook, whoever made it, and after a credential was taken back or
        an operator changed."""
        ...

    # -- the log -----------------------------------------------------------------------------------------------

    async def get_event(self, tenant: str, event_key: bytes) -> EventRecord | None:
        """The event, or None."""
        ...

    async def list_events(
        self, tenant: str, which: EventFilter, *, before: bytes | None, limit: int
    ) -> Sequence[EventRecord]:
        """Newest first, those with keys below `before`."""
        ...

    async def get_delivery(self, tenant: str, event_key: bytes, hook_id: int) -> DeliveryRecord | None:
        """The delivery, or None."""
        ...

    async def list_deliveries(
        self, tenant: str, which: DeliveryFilter, *, before: tuple[bytes, int] | None, limit: int
    ) -> Sequence[DeliveryRecord]:
        """Newest event first, then by hook descending, those below `before`."""
        ...

    async def list_attempts(self, tenant: str, event_key: bytes, hook_id: int) -> Sequence[Attempt]:
        """Every attempt of one delivery, in order."""
        ...

    async def count_waiting(self, hook_id: int, *, at_most: int) -> Mapping[Traffic, tuple[int, int]]:
        """Waiting deliveries of a hook by class, counted up to `at_most` in all, and the earliest due time in ms."""
        ...

    # -- replays of many ---------------------------------------------------------------------------------------

    async def list_candidates(
        self, tenant: str, selection: Selection, *, after: bytes, limit: int
    ) -> tuple[Sequence[Candidate], bytes | None]:
        """Look at the next `limit` events of the selection's time range, oldest first, beyond the key `after`.

        Returns those whose delivery to the hook is in one of the selected states, or missing where that is asked
        for, and the key that was reached; None where the range is at its end. Kinds with a `*` are left to the caller.
        """
        ...

    async def add_replay(self, job: ReplayJob) -> ReplayJob:
        """Store a new job; the returned one has its time."""
        ...

    async def get_replay(self, tenant: str, key: bytes) -> ReplayJob | None:
        """The job, or None."""
        ...

    async def list_replays(self, tenant: str, *, limit: int) -> Sequence[ReplayJob]:
        """The newest jobs."""
        ...

    async def running_replays(self) -> Sequence[ReplayJob]:
        """The jobs of everybody that have not ended, oldest first."""
        ...

    async def advance_replay(
        self, job: ReplayJob, deliveries: Sequence[NewDelivery], keys: Sequence[bytes], reached: bytes | None
    ) -> bool:
        """Make these deliveries (of the events `keys`) due as replays and move the job on, in one transaction.

        `reached` is where the job goes on, None at its end. A delivery that is waiting by now is left alone. False,
        with nothing done, where the job is not where the caller thinks: it was cancelled, or another one advanced it.
        """
        ...

    async def cancel_replay(self, tenant: str, key: bytes) -> bool:
        """End a running job; what it has queued stays. False where none is running under this key."""
        ...

    # -- pruning -----------------------------------------------------------------------------------------------

    async def cancel_orphans(self, limit: int) -> int:
        """Cancel waiting deliveries of hooks that were deleted, at most so many; returns how many."""
        ...

    async def prune_events(
        self, older_than_seconds: float, *, after: int, limit: int
    ) -> tuple[int, int | None]:
        """Of the next `limit` events after a position, 0 at first, delete the old ones with their deliveries.

        Never one with a delivery that waits or that holds back others. Returns how many were deleted and where to go
        on; None: no more old ones. A store that divides its history by day drops a whole day as one such step, and
        may estimate its number.
        """
        ...

    async def prune_attempts(self, older_than_seconds: float, *, limit: int) -> int:
        """Delete old attempts, none of a delivery that waits, at most so many or one day; returns how many, 0 at the end."""
        ...

    async def prune_keys(self, older_than_seconds: float, *, limit: int) -> int:
        """Forget old idempotency keys, at most so many; returns how many."""
        ...

    async def upkeep(self) -> Sequence[str]:
        """Do what the store needs for its own sake now and then; returns what an operator should know about, a sentence each."""
        ...

    # -- access ------------------------------------------------------------------------------------------------

    async def add_user(self, user: User) -> User | None:
        """Store a user; the returned one has its id. None where (tenant, username) exists."""
        ...

    async def get_user(self, tenant: str, username: str) -> User | None:
        """The user, or None."""
        ...

    async def list_users(self, tenant: str) -> Sequence[User]:
        """The tenant's users by name."""
        ...

    async def replace_user(self, user: User) -> bool:
        """Replace full name, office, permissions and password of the user (tenant, id); False where there is none."""
        ...

    async def remove_user(self, tenant: str, user_id: int) -> bool:
        """Delete a user; False where there is none."""
        ...

    async def has_users(self) -> bool:
        """Whether anybody can sign in at all."""
        ...

    async def add_tenant(self, name: str, display_name: str) -> bool:
        """Store a tenant; False where the name is taken."""
        ...

    async def list_tenants(self) -> Sequence[tuple[str, str, int]]:
        """Name, display name and creation time in ms of every tenant."""
        ...

    async def add_api_key(self, key: ApiKey) -> None:
        """Store a key."""
        ...

    async def get_api_key(self, key_id: str) -> ApiKey | None:
        """The key, whoever's it is, also one that was revoked or has expired; or None."""
        ...

    async def list_api_keys(self, tenant: str) -> Sequence[ApiKey]:
        """The tenant's keys, oldest first."""
        ...

    async def revoke_api_key(self, tenant: str, key_id: str) -> bool:
        """Make a key worthless for good; False where the tenant has none that works."""
        ...

    async def use_api_key(self, key_id: str) -> None:
        """Remember that the key was used now."""
        ...

    async def append_audit(self, entry: AuditEntry) -> AuditEntry:
        """Add an entry at the end of its tenant's chain; the returned one has its number, time and digest.

        In the same transaction the chain's head is replaced: number and digest of this entry, signed by
        `Vault.sign_head`. Without it nobody would notice that the newest entries were taken out.
        """
        ...

    async def list_audits(self, tenant: str, *, before: int, limit: int) -> Sequence[AuditEntry]:
        """The tenant's entries with numbers below `before`, newest first."""
        ...

    # -- the members that share it -----------------------------------------------------------------------------

    async def attend(self, member: Member, *, wanted: Collection[int], alive_seconds: float) -> Attendance:
        """Show that this member is alive, give up the segments it holds and does not want, and take those that it wants
        and that nobody holds who was alive in the last `alive_seconds`.

        Leases that a dead member held on deliveries of the segments taken from it end now: they are due, and the next
        claim records the attempt that may have been made as `lost`.
        """
        ...

    async def leave(self, member: Member) -> None:
        """Give up every segment and be forgotten."""
        ...

    async def announce(self) -> None:
        """Tell the other members that something has become due. A hint that may get lost."""
        ...

    def on_announcement(self, wake: Callable[[], None]) -> None:
        """Call `wake` when another member announces something, where the store can tell."""
        ...

    # -- kinds and inlets --------------------------------------------------------------------------------------

    async def add_kind(self, tenant: str, entry: Entry) -> bool:
        """Store a kind of the tenant's own; False, with nothing done, where it has one of this name."""
        ...

    async def replace_kind(self, tenant: str, entry: Entry) -> bool:
        """Replace grouping, description and sample of a kind; False where the tenant has none of this name."""
        ...

    async def list_kinds(self, tenant: str) -> Sequence[Entry]:
        """The tenant's own kinds, by name. Of an entry kind, grouping, description and sample are kept."""
        ...

    async def add_inlet(self, inlet: Inlet) -> Inlet:
        """Store an inlet; the returned one has its id, never given twice, and its time."""
        ...

    async def get_inlet(self, digest: bytes) -> Inlet | None:
        """The inlet whose secret has this digest, whoever's it is; or None."""
        ...

    async def list_inlets(self, tenant: str) -> Sequence[Inlet]:
        """The tenant's inlets, oldest first."""
        ...

    async def remove_inlet(self, tenant: str, inlet_id: int) -> bool:
        """Delete an inlet: its secret is worthless at once; False where the tenant has none of this id."""
        ...

    # -- the store itself --------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Raise `StoreUnavailable` where reading or committing is not possible."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of everything."""
        ...
