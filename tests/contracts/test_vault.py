"""Secrets at rest: what is sealed opens in its own place with its own key, and keys can be changed at any moment."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from embarc.core.access import AuditEntry
from embarc.core.errors import SettingsError
from embarc.core.hook_config import parse_endpoint
from embarc.core.hooks import Hook
from embarc.settings import Settings
from embarc.store.keys import CannotOpen, CommandKey, KeyFile, LocalKey, WrappingKey
from embarc.store.migrate import load_migrations
from embarc.store.sqlite.store import SqliteStore
from embarc.store.vault import Vault
from embarc.stores import key_of
from embarc.testing.clock import ManualClock
from embarc.testing.lab import Factory
from embarc.upkeep import list_keys, rotate_data_keys, rotate_key, verify_audits

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY, OTHER_KEY = "11" * 32, "22" * 32
KMS = """
import base64, sys
for line in sys.stdin:
    value = base64.b64decode(line)
    if sys.argv[1] == "unwrap" and not value.startswith(b"kms:"):
        sys.exit(3)
    turned = b"kms:" + value[::-1] if sys.argv[1] == "wrap" else value[4:][::-1]
    print(base64.b64encode(turned).decode())
"""


def settings_of(folder: Path, **given: Any) -> Settings:
    return Settings(store=f"sqlite:///{folder / 'embarc.db'}", **given)


async def opened(folder: Path, **given: Any) -> SqliteStore:
    vault = Vault(key_of(settings_of(folder, **given)))
    return await SqliteStore.open(folder / "embarc.db", parse_endpoint=parse_endpoint, vault=vault)


async def filled(folder: Path, **given: Any) -> list[Hook]:
    """A database with a hook of each of two tenants; returns them."""
    store = await opened(folder, **given)
    hooks = [
        await store.add_hook(Factory(ManualClock()).hook(tenant=tenant)) for tenant in ("default", "acme")
    ]
    await store.close()
    return hooks


async def found(folder: Path, **given: Any) -> list[Hook]:
    store = await opened(folder, **given)
    hooks = [hook for tenant in ("default", "acme") for hook in await store.list_hooks(tenant)]
    await store.close()
    return hooks


def seals(folder: Path) -> dict[int, bytes]:
    connection = apsw.Connection(str(folder / "embarc.db"))
    rows: list[Any] = connection.execute("select id, sealed_secrets from hooks").fetchall()
    connection.close()
    return dict(rows)


def execute(folder: Path, statement: str, *values: Any) -> None:
    connection = apsw.Connection(str(folder / "embarc.db"))
    connection.execute(statement, values)
    connection.close()


def kms(folder: Path) -> str:
    (folder / "kms.py").write_text(KMS)
    return f"{sys.executable} {folder / 'kms.py'}"


async def test_a_sealed_value_opens_only_in_its_own_row_and_column(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    vault = Vault(KeyFile(tmp_path / "embarc.db.key"))
    await vault.unlock(store)
    await vault.ready(store, "default")
    await vault.ready(store, "acme")
    sealed = vault.seal(b"secret", "default", "hooks", 1, "secrets")

    assert vault.open(sealed, "default", "hooks", 1, "secrets") == b"secret"
    for place in (
        ("acme", "hooks", 1, "secrets"),
        ("default", "inlets", 1, "secrets"),
        ("default", "hooks", 2, "secrets"),
        ("default", "hooks", 1, "others"),
        ("default", "hooks", "1|secrets"),
    ):
        with pytest.raises(CannotOpen):
            vault.open(sealed, *place)
    for changed in (b"\x01" + sealed[1:], sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:20], b""):
        with pytest.raises(CannotOpen):
            vault.open(changed, "default", "hooks", 1, "secrets")
    await store.close()


async def test_a_ciphertext_that_is_moved_to_another_row_is_refused(tmp_path: Path) -> None:
    (one, other) = await filled(tmp_path)
    execute(tmp_path, "update hooks set sealed_secrets = ? where id = ?", seals(tmp_path)[one.id], other.id)

    store = await opened(tmp_path)

    assert await store.get_hook("default", one.id) == one
    with pytest.raises(CannotOpen):
        await store.get_hook("acme", other.id)
    await store.close()


async def test_no_secret_and_no_key_is_readable_in_the_database(tmp_path: Path) -> None:
    await filled(tmp_path, key=KEY)

    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())

    assert b"https://example.com/hook" in content
    assert SECRET.encode() not in content
    assert bytes.fromhex(KEY) not in content
    assert KEY.encode() not in content


async def test_the_key_is_made_for_its_owner_only_and_needed_ever_after(tmp_path: Path) -> None:
    hooks = await filled(tmp_path)
    key = tmp_path / "embarc.db.key"
    assert key.stat().st_mode & 0o077 == 0
    assert (tmp_path / "embarc.db").stat().st_mode & 0o077 == 0
    moved = key.rename(tmp_path / "elsewhere")

    with pytest.raises(SettingsError, match=r"embarc\.db\.key is missing"):
        await opened(tmp_path)
    assert not key.exists()  # none was made up

    assert await found(tmp_path, key_file=str(moved)) == hooks
    assert await found(tmp_path, key=moved.read_text().strip()) == hooks


async def test_another_key_is_refused_at_the_start_and_told_apart(tmp_path: Path) -> None:
    hooks = await filled(tmp_path, key=KEY)
    right, wrong = LocalKey(bytes.fromhex(KEY), "x").key_id, LocalKey(bytes.fromhex(OTHER_KEY), "x").key_id

    with pytest.raises(CannotOpen, match=f"protected by the key {right}.*is {wrong}"):
        await opened(tmp_path, key=OTHER_KEY)

    assert await found(tmp_path, key=KEY) == hooks  # the lock was let go, nothing was changed


@pytest.mark.parametrize("text", ["", "canary", "11" * 31, "11" * 33, "zz" * 32])
def test_a_key_that_is_none_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)

    with pytest.raises(SettingsError) as refused:
        key_of(settings_of(tmp_path, key_file=str(tmp_path / "key")))

    assert "64 hexadecimal digits" in str(refused.value)
    assert not text or text not in str(refused.value)


def test_production_needs_a_key_that_is_not_beside_the_database(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"(?s)openssl rand -hex 32.*EMBARC_KEY_FILE.*EMBARC_KEY_COMMAND"):
        key_of(settings_of(tmp_path, production=True))

    assert list(tmp_path.iterdir()) == []
    for given in ({"key": KEY}, {"key_command": "kms"}):
        assert key_of(settings_of(tmp_path, production=True, **given))
    with pytest.raises(SettingsError, match="Only one key"):
        key_of(settings_of(tmp_path, key=KEY, key_command="kms"))
    with pytest.raises(SettingsError, match="cannot be read"):
        key_of(settings_of(tmp_path, production=True, key_file=str(tmp_path / "missing")))


async def test_a_database_of_the_time_before_data_keys_opens_and_is_sealed_anew(tmp_path: Path) -> None:
    key = bytes.fromhex(KEY)
    (tmp_path / "embarc.db.key").write_text(KEY + "\n")
    first_format(tmp_path / "embarc.db", key)

    (hook,) = await found(tmp_path)

    assert [secret.text for secret in hook.secrets] == [SECRET]
    assert seals(tmp_path)[1][:1] == b"\x02"
    audits = await verify_audits(settings_of(tmp_path))
    assert (audits.entries, audits.broken, [head.number for head in audits.heads]) == (1, [], [1])
    execute(tmp_path, "update audit_heads set signature = x''")
    assert await found(tmp_path) == [
        hook
    ]  # only the first start signs what is there: not what is made to look like it
    assert (await verify_audits(settings_of(tmp_path))).broken
    await rotate_key(settings_of(tmp_path))
    assert await found(tmp_path) == [hook]


def first_format(path: Path, key: bytes) -> None:
    """A database as Embarc made them before there were data keys, with one hook and one audit entry."""
    connection = apsw.Connection(str(path))
    connection.execute(
        "create table migrations (number integer primary key, name text not null, checksum text not null, applied_at_ms integer not null) strict"
    )
    for migration in load_migrations("embarc.store.sqlite"):
        if migration.number < 10:
            connection.execute(migration.sql)
            values = (migration.number, migration.name, migration.checksum)
            connection.execute("insert into migrations values (?, ?, ?, 0)", values)
    secrets = json.dumps({"signing": [[SECRET, None]], "key": "", "credentials": {}}).encode()
    nonce, key_id = os.urandom(12), bytes.fromhex(LocalKey(key, "x").key_id)
    sealed = b"\x01" + key_id + nonce + AESGCM(key).encrypt(nonce, secrets, b"default|hooks|1|secrets")
    config = json.dumps({"Payload URL": "https://example.com/hook", "Content Type": "json"})
    connection.execute(
        "insert into hooks (id, tenant, template, name, display_name, is_active, is_paused, subscriptions, config, "
        "sealed_secrets, version, created_at_ms, updated_at_ms) "
        "values (1, 'default', 'Web', 'Web', 'A hook', 1, 0, '[]', ?, ?, 1, 0, 0)",
        (config, sealed),
    )
    entry = AuditEntry(tenant="default", number=1, username="admin", action="POST /hooks")
    connection.execute(
        "insert into audits (tenant, number, at_ms, username, action, resource_id, before, after, digest) "
        "values ('default', 1, 0, 'admin', 'POST /hooks', '', '', '', ?)",
        (entry.chained(b""),),
    )
    connection.close()


@pytest.mark.parametrize("given", [{}, {"key": KEY}, {"key_file": "key"}, {"key_command": "kms"}])
async def test_a_key_is_followed_by_another_without_touching_what_is_sealed(
    tmp_path: Path, given: dict[str, str]
) -> None:
    folder, outside = tmp_path / "data", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "key").write_text(KEY)
    given = {"key_file": str(outside / "key")} if "key_file" in given else given
    given = {"key_command": kms(outside)} if "key_command" in given else given
    hooks = await filled(folder, **given)
    before, ids = seals(folder), [key.key_id for key in await list_keys(settings_of(folder, **given))]
    following = str(outside / "next")

    count, told = await rotate_key(settings_of(folder, **given), to_file=following)

    assert (count, len(told)) == (3, 1)
    assert seals(folder) == before
    assert [key.key_id for key in await list_keys(settings_of(folder))] == ids
    assert await found(folder, key_file=following) == hooks
    with pytest.raises(CannotOpen, match="protected by the key"):
        await opened(folder, **given)


async def test_the_key_beside_the_database_is_replaced_and_kept_for_backups(tmp_path: Path) -> None:
    hooks = await filled(tmp_path)
    before = (tmp_path / "embarc.db.key").read_text()

    _, (told,) = await rotate_key(settings_of(tmp_path))

    assert (tmp_path / "embarc.db.key").read_text() != before
    (kept,) = tmp_path.glob("embarc.db.key.old-*")
    assert kept.read_text() == before
    assert str(kept) in told
    assert await found(tmp_path) == hooks


async def test_a_place_where_no_key_can_be_written_is_told(tmp_path: Path) -> None:
    await filled(tmp_path, key=KEY)

    with pytest.raises(SettingsError, match=r"cannot be written to .*: No such file or directory"):
        await rotate_key(settings_of(tmp_path, key=KEY), to_file=str(tmp_path / "missing" / "key"))


async def test_a_command_wraps_and_the_key_never_leaves_it(tmp_path: Path) -> None:
    command = kms(tmp_path)
    hooks = await filled(tmp_path, key=KEY)
    await rotate_key(settings_of(tmp_path, key=KEY), to_command=command)

    assert await found(tmp_path, key_command=command) == hooks
    assert {key.wrapped_by for key in await list_keys(settings_of(tmp_path))} == {"command"}
    count, told = await rotate_key(settings_of(tmp_path, key_command=command))
    assert (count, told) == (3, [])
    await filled(tmp_path / "other", key=KEY)
    with pytest.raises(SettingsError, match="--to-file"):
        await rotate_key(settings_of(tmp_path / "other", key=KEY))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys; sys.exit('canary')", "exit code 1"),
        ("print('canary-not-base64')", "as many lines"),
        ("import sys; sys.stdin.read()", "as many lines"),
        ("print('Y2FuYXJ5')", "not what was wrapped"),
    ],
)
async def test_a_command_that_fails_is_told_without_what_it_wrote(
    tmp_path: Path, script: str, reason: str
) -> None:
    (tmp_path / "bad.py").write_text(script)
    await filled(tmp_path, key_command=kms(tmp_path))
    execute(tmp_path, "delete from data_keys where tenant <> ''")

    with pytest.raises(CannotOpen, match=reason) as refused:
        await opened(tmp_path, key_command=f"{sys.executable} {tmp_path / 'bad.py'}")

    assert "canary" not in str(refused.value)
    with pytest.raises(CannotOpen, match="FileNotFoundError"):
        await CommandKey("/nonexistent/kms").unwrap([b"x"])


class _Crash(Exception):
    pass


@pytest.mark.parametrize("place", ["before it is wrapped", "after it is wrapped", "between the renames"])
async def test_a_rotation_that_is_cut_off_anywhere_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    hooks = await filled(tmp_path)

    async def no_rewrap(*_: object) -> int:
        raise _Crash

    def no_replace(*_: object) -> Path:
        raise _Crash

    def half_a_replace(present: KeyFile, following: KeyFile) -> Path:
        present.path.rename(tmp_path / f"embarc.db.key.old-{present.key_id}")
        raise _Crash

    with monkeypatch.context() as cut:
        match place:
            case "before it is wrapped":
                cut.setattr(Vault, "rewrap", no_rewrap)
            case "after it is wrapped":
                cut.setattr(KeyFile, "replace_by", no_replace)
            case _:
                cut.setattr(KeyFile, "replace_by", half_a_replace)
        with pytest.raises(_Crash):
            await rotate_key(settings_of(tmp_path))

    assert await found(tmp_path) == hooks
    await rotate_key(settings_of(tmp_path))
    assert await found(tmp_path) == hooks


async def test_new_data_keys_seal_everything_anew(tmp_path: Path) -> None:
    hooks = await filled(tmp_path, key=KEY)
    before = {key.tenant: key.key_id for key in await list_keys(settings_of(tmp_path))}
    sealed = seals(tmp_path)

    made = await rotate_data_keys(settings_of(tmp_path, key=KEY))

    after = {key.tenant: key.key_id for key in await list_keys(settings_of(tmp_path))}
    assert made == (2, 2)
    assert {tenant for tenant in after if after[tenant] != before[tenant]} == {"default", "acme"}
    assert all(seals(tmp_path)[number] != sealed[number] for number in sealed)
    assert await found(tmp_path, key=KEY) == hooks


@pytest.mark.parametrize("goes_on", ["the next start", "the same command"])
async def test_sealing_anew_goes_on_where_it_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes_on: str
) -> None:
    hooks = await filled(tmp_path, key=KEY)
    replace_seal = SqliteStore.replace_seal
    done: list[int] = []

    async def only_once(store: SqliteStore, *given: Any) -> bool:
        if done:
            raise _Crash
        done.append(1)
        return await replace_seal(store, *given)

    with monkeypatch.context() as cut:
        cut.setattr(SqliteStore, "replace_seal", only_once)
        with pytest.raises(_Crash):
            await rotate_data_keys(settings_of(tmp_path, key=KEY))
    assert any(key.is_retired for key in await list_keys(settings_of(tmp_path)))

    if goes_on == "the same command":
        await rotate_data_keys(settings_of(tmp_path, key=KEY))
    assert await found(tmp_path, key=KEY) == hooks
    assert [key.is_retired for key in await list_keys(settings_of(tmp_path))] == [False] * 3


async def test_two_who_need_a_tenants_first_key_at_once_get_the_same(tmp_path: Path) -> None:
    store = await opened(tmp_path, key=KEY)
    second = Vault(
        key_of(settings_of(tmp_path, key=KEY))
    )  # another process's, on a store that several may open
    await second.unlock(store)
    make = Factory(ManualClock())

    added, *_ = await asyncio.gather(
        store.add_hook(make.hook(tenant="acme")),
        second.ready(store, "acme"),
        second.ready(store, "acme"),
        store.add_hook(make.hook(tenant="acme")),
    )
    sealed = second.seal(b"x", "acme", "hooks", 1, "secrets")

    assert [key.tenant for key in await store.list_data_keys()] == ["", "acme"]
    assert await store.get_hook("acme", added.id) == added
    third = Vault(key_of(settings_of(tmp_path, key=KEY)))
    await third.know(store, [sealed])
    assert third.open(sealed, "acme", "hooks", 1, "secrets") == b"x"
    await store.close()


def test_what_holds_a_key_does_not_show_it() -> None:
    local: WrappingKey = LocalKey(bytes.fromhex(KEY), "a test")

    for shown in (repr(local), repr(Vault(local)), repr(vars(local)), repr(settings_of(Path("x"), key=KEY))):
        assert KEY not in shown
        assert str(bytes.fromhex(KEY)) not in shown


def embarc(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EMBARC_")}
    command = [str(Path(sys.executable).with_name("embarc")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=clean | environment)


async def test_the_commands_tell_what_they_did_and_what_is_wrong(tmp_path: Path) -> None:
    await filled(tmp_path)
    store = ("--store", f"sqlite:///{tmp_path / 'embarc.db'}")

    shown = await asyncio.to_thread(embarc, "keys", "show", *store)
    rotated = await asyncio.to_thread(embarc, "keys", "rotate", *store)
    sealed = await asyncio.to_thread(embarc, "keys", "rotate", "--data", *store)
    wrong = await asyncio.to_thread(embarc, "serve", "--port", "0", *store, EMBARC_KEY=OTHER_KEY)
    production = await asyncio.to_thread(embarc, "serve", "--port", "0", *store, EMBARC_PRODUCTION="1")
    running = await opened(tmp_path)
    in_use = await asyncio.to_thread(embarc, "keys", "rotate", *store)
    beside = await asyncio.to_thread(embarc, "keys", "show", *store)
    await running.close()

    assert shown.returncode == rotated.returncode == sealed.returncode == beside.returncode == 0
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == [
        "(installation)",
        "acme",
        "default",
    ]
    assert rotated.stdout.startswith("3 data keys wrapped anew")
    assert sealed.stdout == "2 new data keys, 2 secrets sealed anew\n"
    assert (wrong.returncode, production.returncode, in_use.returncode) == (2, 2, 2)
    assert "protected by the key" in wrong.stderr
    assert "openssl rand -hex 32" in production.stderr
    assert "in use by another Embarc process" in in_use.stderr
