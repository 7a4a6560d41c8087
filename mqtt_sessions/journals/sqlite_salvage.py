"""A SQLite journal whose pages are damaged: what can be read moves to a new file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from mqtt_sessions.journals.contract import JournalUnusable, Quarantined
from mqtt_sessions.journals.sqlite_rows import Columns
from mqtt_sessions.journals.sqlite_schema import KEYS, open_file, reason_of, sync_directory, wal_of

__all__ = ["is_sound", "salvage"]

_MOST_TRIALS = 5_000
"""Ranges of one table that are looked into; a damaged page costs as many as its keys have bits."""


def is_sound(connection: sqlite3.Connection) -> bool:
    """Whether all pages hang together. *Cost* O(file), a small part of what loading it costs."""
    try:
        # Not `quick_check`: it passes over keys that are out of order, where rows are not found.
        (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0)  # it has none if it is the module's own
        if code & 0xFF != sqlite3.SQLITE_CORRUPT:
            raise
        return False
    return bool(found == "ok")


def salvage(
    connection: sqlite3.Connection, path: Path
) -> tuple[sqlite3.Connection, list[Quarantined]]:
    """Put a sound file in the place of a damaged one, which is kept beside it.

    Args:
        connection: Of the damaged file; it is closed.
        path: Of both.

    Returns:
        The connection of the new file, and what could not be read.

    Raises:
        JournalUnusable: Not even this is possible; the file is as it was.
    """
    fresh = path.with_name(path.name + "-salvaged")
    _remove(fresh)
    lost: list[Quarantined] = []
    target: sqlite3.Connection | None = None
    try:
        # What stands in the log has to be in the file before another takes its place.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        target = open_file(fresh, read_only=False)
        target.execute("BEGIN")
        for table, names in (*KEYS.items(), ("quarantine", ("number",))):
            columns = len(connection.execute(f"SELECT * FROM {table} LIMIT 0").description)
            marks = ", ".join("?" * columns)
            reader = _Reader(connection, table, names)
            target.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", reader.rows())
            lost += reader.lost
        target.execute("COMMIT")
        # Closing would do the same, and not tell that the disk is full.
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        target.close()
        connection.close()
        if wal_of(path).exists():
            raise JournalUnusable(f"{path}: its log cannot be moved to its place")
        os.link(path, _unused(path))
        os.replace(fresh, path)
        sync_directory(path.absolute().parent)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise JournalUnusable(reason_of(path, error)) from error
    except OSError as error:
        raise JournalUnusable(f"{path}: its pages are damaged, and {error}") from error
    finally:
        if target is not None:
            target.close()
        _remove(fresh)
    return open_file(path, read_only=False), lost


def _remove(path: Path) -> None:
    """A file that came to nothing, and its log, which a full disk may have left."""
    for each in (path, wal_of(path)):
        each.unlink(missing_ok=True)


def _unused(path: Path) -> Path:
    number = 1
    while (kept := path.with_name(f"{path.name}-damaged-{number}")).exists():
        number += 1
    return kept


class _Reader:
    """The rows of a table that can be read, whatever its pages are like."""

    def __init__(self, connection: sqlite3.Connection, table: str, names: tuple[str, ...]) -> None:
        self._connection = connection
        self._table = table
        self._names = names
        self._trials = 0
        self.lost: list[Quarantined] = []

    def rows(self) -> Iterator[Columns]:
        """From both ends towards the damage, and between damages where keys are numbers."""
        if len(self._names) == 1 and self._table not in {"will", "retained"}:
            yield from self._between(-(2**63), 2**63 - 1)
            return
        for direction in ("ASC", "DESC"):
            order = ", ".join(f"{name} {direction}" for name in self._names)
            try:
                yield from self._connection.execute(f"SELECT * FROM {self._table} ORDER BY {order}")
            except sqlite3.DatabaseError as error:
                if direction == "DESC":
                    self._lose("somewhere", error)
            else:
                return

    def _between(self, low: int, high: int) -> Iterator[Columns]:
        """The rows whose keys are from `low` to `high`."""
        name = self._names[0]
        ends = [low, high]
        damage: sqlite3.DatabaseError | None = None
        for side, direction in enumerate(("ASC", "DESC")):
            self._trials += 1
            sql = f"SELECT * FROM {self._table} WHERE {name} BETWEEN ? AND ? ORDER BY {name}"
            try:
                for row in self._connection.execute(f"{sql} {direction}", ends):
                    yield row
                    ends[side] = row[0] + (-1 if side else 1)
            except sqlite3.DatabaseError as error:
                damage = error
            else:
                return
        low, high = ends
        if low > high or damage is None:
            return
        middle = (low + high) // 2
        if low == high or self._trials > _MOST_TRIALS:
            self._lose(f"{name} {low} to {high}", damage)
            return
        yield from self._between(low, middle)
        yield from self._between(middle + 1, high)

    def _lose(self, row: str, error: sqlite3.DatabaseError) -> None:
        self.lost.append(Quarantined(self._table, row, f"its pages are damaged: {error}"))
