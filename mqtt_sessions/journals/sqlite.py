"""A journal in one SQLite file, with nothing but the standard library."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from mqtt_sessions.changes import (
    Change,
    DeliveryRemoved,
    DeliveryStored,
    MessageStored,
    SessionRemoved,
    Stored,
)
from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.journals.contract import (
    JournalError,
    JournalUnusable,
    Quarantined,
    check_batch,
)
from mqtt_sessions.journals.sqlite_bodies import back_of, pack_alone, pack_copy
from mqtt_sessions.journals.sqlite_load import Loading
from mqtt_sessions.journals.sqlite_rows import REMOVED, STORED, Key
from mqtt_sessions.journals.sqlite_salvage import is_sound, salvage
from mqtt_sessions.journals.sqlite_schema import (
    CHECKPOINT_PAGES,
    KEYS,
    MOST_LOG,
    index_of,
    open_file,
    reason_of,
    wal_of,
)

__all__ = ["SQLiteJournal"]

Last: TypeAlias = dict[str, dict[Key, Any]]
"""By table and key: the last change of each row, None where it is a removal."""

_LARGEST_CHUNK = 64
"""Rows in one statement; a power of two, and 11 columns of each stay under SQLite's old limit."""

_SHORTEST_RUN = 8
"""Keys in a row that are worth a statement of their own."""

_OF_SESSION = ("subscription", "inbound", "replay", "exchange")
"""What goes with a session."""


class SQLiteJournal:
    """A journal in one SQLite file.

    The file belongs to one process at a time. Each commit is one transaction, written to the log
    beside the file and synchronized. All calls have to come one after the other, but may come from
    different threads.

    Args:
        path: The file; it is made if there is none. Beside it stands its log (`-wal`), which
            belongs to it.
        read_only: Look only: nothing is written, damaged rows stay where they are, and commits are
            refused.

    Raises:
        JournalUnusable: With the file, what is wrong, and what can be done.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path = Path(path)
        self._process = os.getpid()
        self._read_only = read_only
        self._ended = "it is read-only" if read_only else ""
        self._is_unread = self.path.exists()
        self._wal = wal_of(self.path)
        self._was_alone = not self._wal.exists()
        self._leaves_index = index_of(self.path).exists()
        self._connection = open_file(self.path, read_only=read_only)
        self._quarantined: list[Quarantined] = []
        self._work = 0
        self._work_until_checkpoint = CHECKPOINT_PAGES

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def __del__(self) -> None:
        """One that nobody holds gives its file back, as at the end of its process."""
        connection = getattr(self, "_connection", None)
        if connection is not None:
            with suppress(Exception):
                connection.close()

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """What `load` has set aside; it stays in the table `quarantine`."""
        return tuple(self._quarantined)

    def quarantine(self) -> Iterator[Quarantined]:
        """What stands in the table `quarantine`: all that was ever set aside and moved there.

        Raises:
            JournalUnusable: It cannot be read.

        *Cost* O(rows).
        """
        try:
            yield from (
                Quarantined(str(table), str(row), str(reason))
                for table, row, reason in self._connection.execute(
                    "SELECT source, name, reason FROM quarantine ORDER BY number"
                )
            )
        except sqlite3.Error as error:
            raise JournalUnusable(reason_of(self.path, error)) from error

    def load(self) -> Iterator[Stored]:
        """All rows in force; see `Journal.load`.

        Where pages are damaged, all that can be read moves to a new file first; the damaged one is
        kept beside it as `…-damaged-1`.

        Raises:
            JournalUnusable: It cannot be read; with what can be done.
        """
        self._is_unread = False
        self._quarantined = []
        try:
            if not is_sound(self._connection):
                if self._read_only:
                    raise JournalUnusable(
                        f"{self.path}: its pages are damaged; the next start of its broker keeps "
                        "it beside a new file, with all that can be read"
                    )
                self._connection, self._quarantined = salvage(self._connection, self.path)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter from names of columns
            raise JournalUnusable(reason_of(self.path, error)) from error
        return Loading(
            self._connection, self.path, self._read_only, self._was_alone, self._quarantined
        ).rows()

    def commit(self, batch: Sequence[Change]) -> None:
        """Make a batch durable; see `Journal.commit`."""
        if self._ended:
            raise JournalError(f"{self.path} takes no more batches: {self._ended}")
        if self._process != os.getpid():  # the lock has stayed with the other one
            raise JournalError(
                f"{self.path} takes no batch from this process: process {self._process} has opened "
                "it, and was forked; open it behind the fork"
            )
        if self._is_unread:  # a store that knows nothing of its rows would mix others with them
            raise JournalError(
                f"{self.path} takes no batch before it was read: it is not new, so begin with "
                "SessionStore.recover(journal.load(), now)"
            )
        check_batch(batch)
        if not batch:
            return
        try:
            self._write(batch)
            self._checkpoint(len(batch))
        except InvalidValue:
            raise  # before anything was written
        except BaseException as error:
            self._end(f"{type(error).__name__}: {error}")
            if not isinstance(error, Exception):
                raise
            raise JournalError(f"{self.path}: a batch may not be durable: {error}") from error

    def close(self) -> None:
        """Give the file back, with all that the log holds moved to its place."""
        self._end(self._ended or "it is closed")

    def _end(self, reason: str) -> None:
        self._ended = reason
        try:
            # Only batches that were durable before are moved to their places here.
            self._connection.close()
        except sqlite3.Error:
            pass  # then they are still in the log
        if self._read_only and not self._leaves_index:
            index_of(self.path).unlink(missing_ok=True)

    # ---------------------------------------------------------------- one batch

    def _write(self, batch: Sequence[Change]) -> None:
        deliveries: dict[int, DeliveryStored | None] = {}
        rest: Last = {}
        ended: list[int] = []
        for change in batch:
            if isinstance(change, DeliveryRemoved):
                deliveries[change.delivery_id] = None
            elif isinstance(change, DeliveryStored):
                deliveries[change.delivery_id] = change
            elif isinstance(change, SessionRemoved):
                ended.append(change.session_id)
            elif (stored := STORED.get(type(change))) is not None:
                table, key_columns, columns_of = stored
                columns = columns_of(change)
                rest.setdefault(table, {})[columns[:key_columns]] = columns
            elif (removed := REMOVED.get(type(change))) is None:
                raise InvalidValue(f"a batch holds {type(change).__name__}, which is no Change")
            else:
                table, key_of = removed
                rest.setdefault(table, {})[key_of(change)] = None
        statements = list(_delivery_statements(deliveries, batch)) if deliveries else []
        for table, last in rest.items():
            statements += _statements(table, last)
        for table in (*_OF_SESSION, "session") if ended else ():
            statements.append(_delete_in(table, "session_id", ended))
        execute = self._connection.execute
        execute("BEGIN")
        for sql, values in statements:
            execute(sql, values)
        execute("COMMIT")

    def _checkpoint(self, work: int) -> None:
        """Move the log's pages to their places from time to time.

        Only then is the log written from its beginning again, which costs a wait for the disk a
        fraction of what it costs to make a file longer. How many pages a batch has written cannot
        be asked for; a checkpoint tells how many there were, and that is the measure for the next.
        Where it deceives, the log's length tells.
        """
        self._work += work
        if self._work < self._work_until_checkpoint and os.stat(self._wal).st_size < MOST_LOG:
            return
        _, pages, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        wanted = self._work * CHECKPOINT_PAGES // max(pages, 1)
        self._work_until_checkpoint = min(max(wanted, 100), 100 * CHECKPOINT_PAGES)
        self._work = 0


Statement: TypeAlias = tuple[str, Sequence[Any]]


def _delivery_statements(
    deliveries: dict[int, DeliveryStored | None], batch: Sequence[Change]
) -> Iterator[Statement]:
    """Deliveries, the most of what there is to write."""
    removed = [delivery_id for delivery_id, change in deliveries.items() if change is None]
    if removed:
        yield from _delete_runs("delivery", "delivery_id", removed)
    values: list[Any] = []
    messages: dict[int, MessageStored] | None = None
    copies: dict[int, tuple[int, bytes]] = {}
    for delivery_id, change in deliveries.items():
        if change is None:
            continue
        delivery, message_id = change.delivery, change.message_id
        if message_id is None:
            body = pack_alone(delivery)
        else:
            packed = copies.get(id(delivery))
            if packed is None:
                if messages is None:
                    messages = {
                        each.message_id: each for each in batch if isinstance(each, MessageStored)
                    }
                packed = copies[id(delivery)] = pack_copy(delivery, messages.get(message_id))
            body = back_of(packed[0], delivery_id - message_id, packed[1])
        values += (delivery_id, change.session_id, body)
    yield from _inserts("delivery", 3, values)


def _statements(table: str, last: dict[Key, Any]) -> Iterator[Statement]:
    """The rows of one table, which a batch writes or deletes."""
    removed = [key for key, columns in last.items() if columns is None]
    if removed:
        names = KEYS[table]
        if len(names) == 1 and isinstance(removed[0][0], int):
            yield _delete_in(table, names[0], [key[0] for key in removed])
        else:
            yield from _deletes(table, names, removed)
    stored = [columns for columns in last.values() if columns is not None]
    if stored:
        values = [value for columns in stored for value in columns]
        yield from _inserts(table, len(stored[0]), values)


def _delete_in(table: str, column: str, keys: list[int]) -> Statement:
    """Any number of rows by one statement; a statement for each would cost the GIL each time."""
    text = repr(sorted(keys))
    return f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", (text,)


def _delete_runs(table: str, column: str, keys: list[int]) -> Iterator[Statement]:
    """The same; what is acknowledged in order has keys in a row, which cost a third."""
    keys.sort()
    begin, singles = 0, []
    for end in range(1, len(keys) + 1):
        if end < len(keys) and keys[end] == keys[end - 1] + 1:
            continue
        if end - begin < _SHORTEST_RUN:
            singles += keys[begin:end]
        else:
            run = keys[begin], keys[end - 1]
            yield f"DELETE FROM {table} WHERE {column} BETWEEN ? AND ?", run
        begin = end
    if singles:
        yield _delete_in(table, column, singles)


def _deletes(table: str, names: tuple[str, ...], keys: list[Key]) -> Iterator[Statement]:
    values = [value for key in keys for value in key]
    what = f"DELETE FROM {table} WHERE ({', '.join(names)}) IN (VALUES "
    yield from _in_chunks(what, len(names), ")", values)


def _inserts(table: str, columns: int, values: list[Any]) -> Iterator[Statement]:
    yield from _in_chunks(f"INSERT OR REPLACE INTO {table} VALUES ", columns, "", values)


def _in_chunks(before: str, columns: int, after: str, values: list[Any]) -> Iterator[Statement]:
    """Statements of 64, 32, ... 1 rows, few enough that all of them stay prepared."""
    at, chunk = 0, _LARGEST_CHUNK
    while at < len(values):
        while chunk * columns > len(values) - at:
            chunk //= 2
        end = at + chunk * columns
        yield f"{before}{_marks(columns, chunk)}{after}", values[at:end]
        at = end


@cache
def _marks(columns: int, rows: int) -> str:
    one = f"({', '.join('?' * columns)})"
    return ", ".join([one] * rows)
