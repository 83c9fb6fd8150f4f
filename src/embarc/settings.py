"""Settings: one frozen object, read in one place.

Each comes from `embarc.toml` in the working directory (or the file named by `EMBARC_CONFIG`), then from the
environment (`EMBARC_` and the name in capitals), then from the command line; later ones win. A name that does
not exist is refused with the nearest one that does: a mistyped setting must not silently be a default.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from embarc.core.errors import SettingsError
from embarc.core.fields import nearest

ROLES = ("all", "api", "dispatch")
MOST_PROCESSES = 64
PREFIX = "EMBARC_"
CONFIG_VARIABLE = "EMBARC_CONFIG"
_ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?\Z")
TEST_PREFIX = "EMBARC_TEST_"
"""Variables of the test suite, none of ours."""
RELAY_PREFIX = "EMBARC_RELAY_"
"""Variables of `embarc relay`, whose settings are its command line's."""


def _setting(default: Any, doc: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"doc": doc}, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set about a running Embarc."""

    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(8080, "Port to listen on; 0 takes a free one.")
    store: str = _setting(
        "sqlite:///embarc.db",
        "Where events live: `sqlite:///relative.db`, `sqlite:////absolute.db`, or `postgresql://USER@HOST/DATABASE`. The latter may hold a password: prefer `EMBARC_STORE` or a password file to the command line. `?connections=6` bounds its connections; `?statement_cache_size=0` goes through a pooler in transaction mode.",
        secret=True,
    )
    role: str = _setting(
        "all",
        "What this process does: `api` answers programs and people, `dispatch` sends, `all` does both. Other than `all` needs a PostgreSQL store.",
    )
    processes: int = _setting(
        1, "How many processes `embarc serve` runs behind one port. More than one need a PostgreSQL store."
    )
    sandbox: bool = _setting(
        False, "Mount the sandbox lending core (`/clients`, `/offices`, ...) beside the API."
    )
    admin_password: str = _setting(
        "",
        "Password of the user `admin`, who is made at the first start on an empty store. Without it a random one is made and printed once.",
        secret=True,
    )
    production: bool = _setting(
        False, "Refuse to start with what is only good for trying: a key that lies beside the database."
    )
    key: str = _setting(
        "",
        "The key that protects stored secrets: 64 hexadecimal digits, as `openssl rand -hex 32` writes them. Without it, `key_file` or `key_command`, one is made beside the embedded database, or as `embarc.key` in the working directory.",
        secret=True,
    )
    key_file: str = _setting(
        "", "A file with that key. Every process on a PostgreSQL store needs the same one."
    )
    key_command: str = _setting(
        "",
        "A command that wraps with a KMS or HSM instead: it is run with the word `wrap` or `unwrap`, gets lines of base64, and answers as many.",
    )
    allow_private: tuple[str, ...] = _setting(
        (),
        "Private networks that hooks may point to: CIDRs, comma separated, each with an optional port (`10.1.0.0/16`, `127.0.0.0/8:9000`). Inside them plain http and any port are allowed too.",
    )
    allow_metadata: bool = _setting(
        False,
        "DANGEROUS: let `allow_private` cover the metadata services of clouds (169.254.169.254 and the like) too. Whoever may configure a hook can then ask them for this machine's credentials.",
    )
    deny_networks: tuple[str, ...] = _setting(
        (), "Networks that hooks may never point to, whatever else allows them: CIDRs, comma separated."
    )
    hook_ports: tuple[str, ...] = _setting(
        ("443", "8443"), "Ports of public addresses that hooks may point to, comma separated."
    )
    egress_proxy: str = _setting(
        "",
        "A proxy that every send goes through by CONNECT, `http://HOST:PORT` or `http://USER:PASSWORD@HOST:PORT`. Addresses are still resolved and checked here. Proxies of the environment are never used.",
        secret=True,
    )
    open_catalogue: bool = _setting(
        False, "Accept events of kinds that the catalogue does not know, and subscriptions to them."
    )
    cors_origins: tuple[str, ...] = _setting(
        (),
        "Origins whose pages may call the API from a browser, comma separated (`https://mifos.example.com`); `*` is any.",
    )
    lease_seconds: float = _setting(
        60.0,
        "How long a process may hold a delivery without renewing it; longer than the longest timeout of a hook.",
    )
    retention_days: float = _setting(
        30.0, "How long events and their deliveries are kept; those that still wait stay longer."
    )
    attempt_retention_days: float = _setting(90.0, "How long attempts are kept.")
    disable_after_days: float = _setting(
        5.0, "A hook whose endpoint fails for so long without one success is disabled; 0 never disables."
    )
    log_level: str = _setting(
        "info", "`debug`, `info`, `warning` or `error`. At `debug` every attempt has its line."
    )

    @property
    def is_embedded(self) -> bool:
        """Whether the store is a file that one process opens."""
        return self.store.startswith("sqlite:")


def load_settings(
    environment: Mapping[str, str],
    *,
    overrides: Mapping[str, Any] | None = None,
    directory: Path | None = None,
) -> Settings:
    """The settings in force. `overrides` are the command line's; None in it means "not given".

    Raises `SettingsError`, which names the setting, where it was set, and what it may be.
    """
    known = {setting.name: setting for setting in fields(Settings)}
    values = _from_file(environment, directory or Path.cwd(), known) | _from_environment(environment, known)
    for name, value in (overrides or {}).items():
        if value is not None:
            values[name] = _convert(value, known[name], "the command line")
    settings = Settings(**values)
    _check(settings)
    return settings


def as_environment(settings: Settings) -> dict[str, str]:
    """The variables that make another process read the same settings, whatever its file says."""
    return {variable(one.name): _written(getattr(settings, one.name)) for one in fields(Settings)}


def _written(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def _from_file(
    environment: Mapping[str, str], directory: Path, known: Mapping[str, Field[Any]]
) -> dict[str, Any]:
    named = environment.get(CONFIG_VARIABLE)
    path = Path(named) if named else directory / "embarc.toml"
    if not path.exists():
        if named:
            raise SettingsError(f"{CONFIG_VARIABLE} names {path}, which does not exist.")
        return {}
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    for name in read:
        if name not in known:
            raise SettingsError(f"{path}: there is no setting `{name}`.{_hint(name, list(known))}")
    return {name: _convert(value, known[name], str(path)) for name, value in read.items()}


def _from_environment(environment: Mapping[str, str], known: Mapping[str, Field[Any]]) -> dict[str, Any]:
    by_variable = {variable(name): name for name in known}
    values = {}
    for name, text in environment.items():
        if (
            not name.startswith(PREFIX)
            or name.startswith((TEST_PREFIX, RELAY_PREFIX))
            or name == CONFIG_VARIABLE
        ):
            continue
        if name not in by_variable:
            raise SettingsError(f"There is no setting {name}.{_hint(name, [*by_variable, CONFIG_VARIABLE])}")
        values[by_variable[name]] = _convert(text, known[by_variable[name]], name)
    return values


def _hint(name: str, known: list[str]) -> str:
    near = nearest(name, known)
    return f" Did you mean {near}?" if near else f" There are: {', '.join(sorted(known))}."


def _convert(value: Any, setting: Field[Any], where: str) -> Any:
    default = setting.default if setting.default is not MISSING else None
    try:
        match default:
            case bool():
                return _boolean(value)
            case int():
                return int(value)
            case float():
                return float(value)
            case tuple():
                parts = value.split(",") if isinstance(value, str) else value
                return tuple(part.strip() for part in parts if part.strip())
            case _:
                if not isinstance(value, str):
                    raise ValueError("a string is expected")
                return value
    except (ValueError, TypeError, AttributeError):
        # The value itself is not shown: it may be a password in the wrong place.
        raise SettingsError(
            f"{where}: `{setting.name}` must be {_kind(default)}. {setting.metadata['doc']}"
        ) from None


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off", ""):
        return False
    raise ValueError(word)


def _kind(default: Any) -> str:
    kinds = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        tuple: "a list, comma separated",
    }
    return kinds.get(type(default), "text")


def _check(settings: Settings) -> None:
    if settings.role not in ROLES:
        raise SettingsError(f"`role` must be one of {', '.join(ROLES)}.")
    if not 1 <= settings.processes <= MOST_PROCESSES:
        raise SettingsError(f"`processes` must be between 1 and {MOST_PROCESSES}, not {settings.processes}.")
    if settings.is_embedded and (settings.role != "all" or settings.processes > 1):
        raise SettingsError(
            "An embedded store is opened by one process that does everything. For more `processes`, or a `role`, give a "
            "`store` that they can share: postgresql://..."
        )
    if not 0 <= settings.port <= 65535:
        raise SettingsError(f"`port` must be between 0 and 65535, not {settings.port}.")
    if settings.lease_seconds <= 35:
        raise SettingsError(
            "`lease_seconds` must be more than 35: a lease that ends before the longest attempt does would let two "
            "processes deliver at once."
        )
    for name in ("retention_days", "attempt_retention_days"):
        if not 0 < getattr(settings, name) <= 36_500:
            raise SettingsError(f"`{name}` must be more than 0 and at most 36500 days.")
    if not 0 <= settings.disable_after_days <= 3650:
        raise SettingsError("`disable_after_days` must be between 0 (never) and 3650.")
    for origin in settings.cors_origins:
        if origin != "*" and not _ORIGIN.match(origin):
            raise SettingsError(
                "`cors_origins` must hold `*` or origins as browsers send them: `https://host` or `https://host:port`, "
                "in small letters, without a path and without a slash at the end."
            )
    if settings.log_level not in ("debug", "info", "warning", "error"):
        raise SettingsError("`log_level` must be debug, info, warning or error.")
