"""Settings: three sources, one object, no silent mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from embarc.app import network_policy
from embarc.core.errors import SettingsError
from embarc.net.guard import EgressProxy
from embarc.settings import load_settings, variable


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "embarc.toml").write_text(
        'host = "a"\nport = 1\nstore = "sqlite:///file.db"\nallow_private = ["::1/128"]\n'
    )

    settings = load_settings(
        {"EMBARC_PORT": "2", "EMBARC_STORE": "sqlite:///environment.db", "PATH": "x"},
        overrides={"port": 3, "store": None},
        directory=tmp_path,
    )

    assert (settings.host, settings.port, settings.store) == ("a", 3, "sqlite:///environment.db")
    assert settings.allow_private == ("::1/128",)


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("true", True), ("on", True), ("0", False), ("no", False)]
)
def test_switches_are_read_as_people_write_them(tmp_path: Path, text: str, value: bool) -> None:
    assert load_settings({"EMBARC_SANDBOX": text}, directory=tmp_path).sandbox is value


def test_lists_are_comma_separated(tmp_path: Path) -> None:
    settings = load_settings({"EMBARC_ALLOW_PRIVATE": "10.0.0.0/8, 127.0.0.0/8:9000,"}, directory=tmp_path)

    assert settings.allow_private == ("10.0.0.0/8", "127.0.0.0/8:9000")


def test_an_unknown_name_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no setting EMBARC_STOER\. Did you mean EMBARC_STORE"):
        load_settings({"EMBARC_STOER": "x"}, directory=tmp_path)
    (tmp_path / "embarc.toml").write_text("prot = 1\n")
    with pytest.raises(SettingsError, match=r"embarc\.toml: there is no setting `prot`\. Did you mean port"):
        load_settings({}, directory=tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "x"), ("PORT", "70000"), ("SANDBOX", "maybe"), ("LEASE_SECONDS", "30"), ("LOG_LEVEL", "loud")],
)
def test_a_wrong_value_is_refused_by_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name.lower()):
        load_settings({f"EMBARC_{name}": value}, directory=tmp_path)


def test_a_file_that_is_named_must_be_there_and_be_toml(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings({"EMBARC_CONFIG": str(tmp_path / "none.toml")}, directory=tmp_path)
    (tmp_path / "embarc.toml").write_text("port = ")
    with pytest.raises(SettingsError, match="not valid TOML"):
        load_settings({}, directory=tmp_path)


def test_the_password_is_not_shown(tmp_path: Path) -> None:
    settings = load_settings({"EMBARC_ADMIN_PASSWORD": "hunter2"}, directory=tmp_path)

    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("allow_private", "10.0.0.0/33"),
        ("deny_networks", "10.0.0.0/8:80"),
        ("hook_ports", "443,25"),
        ("hook_ports", "https"),
        ("egress_proxy", "https://user:hunter2@proxy.example:3128"),
    ],
)
def test_what_hooks_may_point_to_is_checked_at_the_start_and_the_setting_named(
    name: str, value: str, tmp_path: Path
) -> None:
    settings = load_settings({variable(name): value}, directory=tmp_path)

    with pytest.raises(SettingsError, match=f"`{name}`") as refused:
        network_policy(settings)
    assert "hunter2" not in str(refused.value) + repr(settings)


def test_what_hooks_may_point_to_becomes_the_policy(tmp_path: Path) -> None:
    settings = load_settings(
        {
            "EMBARC_HOOK_PORTS": "443, 9443",
            "EMBARC_ALLOW_METADATA": "yes",
            "EMBARC_EGRESS_PROXY": "http://p:1",
        },
        directory=tmp_path,
    )

    policy, proxy = network_policy(settings)

    assert (policy.ports, policy.allow_metadata) == (frozenset({443, 9443}), True)
    assert proxy == EgressProxy("p", 1)
