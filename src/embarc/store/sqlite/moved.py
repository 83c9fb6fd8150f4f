"""A database whose content was copied to another store says so in a file beside it, and is not opened any more.

The file is the whole mark: who wants to go on with the database after all deletes it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from embarc.core.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Where to, under which copy's id, and whether everything is there."""

    copy_id: str
    target: str
    is_complete: bool


def mark_of(path: Path) -> Path:
    """The file that says that this database was copied."""
    return path.with_name(path.name + ".moved")


def read_mark(path: Path) -> Moved | None:
    """What is said about the database at `path`; raises `SettingsError` where it cannot be understood."""
    mark = mark_of(path)
    try:
        return msgspec.json.decode(mark.read_bytes(), type=Moved)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        raise SettingsError(f"{mark} cannot be read: it is to say where {path} was copied to.") from None


def write_mark(path: Path, moved: Moved) -> None:
    """Say it, on the disk when this returns."""
    mark = mark_of(path)
    following = mark.with_name(mark.name + ".next")
    with following.open("wb") as file:
        file.write(msgspec.json.encode(moved))
        file.flush()
        os.fsync(file.fileno())
    following.replace(mark)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def told(path: Path, moved: Moved) -> str:
    """What has become of the database, and how to go on with it nevertheless."""
    mark = mark_of(path)
    if moved.is_complete:
        return (
            f"{path} was copied to {moved.target}, which holds everything since. Start Embarc with that --store. To go back "
            f"to this file, without what has happened there, delete {mark}."
        )
    return (
        f"{path} is being copied to {moved.target}, which is not finished. Call `embarc store copy` again: it goes on. To "
        f"go on with this file instead, delete {mark}; another copy then begins anew, on an empty database."
    )


def refuse_moved(path: Path) -> None:
    """Raise `SettingsError` where the database was copied, or is about to be."""
    if moved := read_mark(path):
        raise SettingsError(told(path, moved))
