"""Numbered migrations, each applied once and never changed afterwards.

A migration's text is remembered by its SHA-256: a file that was edited after it was applied somewhere is
refused, because then two databases of one version would differ.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from embarc.core.errors import EmbarcError


class MigrationError(EmbarcError):
    """The database cannot be brought to this version of Embarc."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the statement text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations(package: str) -> list[Migration]:
    """The migrations of a store, in order; `NNNN_name.sql` in its `migrations` folder."""
    folder = files(package).joinpath("migrations")
    found = [
        Migration(int(file.name[:4]), file.name[5:-4], file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.number)


def pending(known: list[Migration], applied: dict[int, str]) -> list[Migration]:
    """What is still to apply, given number and checksum of what was; raises `MigrationError`."""
    numbers = {migration.number for migration in known}
    if newer := sorted(set(applied) - numbers):
        raise MigrationError(
            f"The database was migrated by a newer Embarc (migration {newer[-1]:04d}). Run that version or a later one."
        )
    for migration in known:
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise MigrationError(
                f"Migration {migration.number:04d}_{migration.name} was changed after it had been applied here."
            )
    return [migration for migration in known if migration.number not in applied]
