"""Reading a SQLite journal: every row that makes sense, and a quarantine for those that do not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mqtt_sessions.changes import (
    DeliveryStored,
    ExchangeStored,
    MessageStored,
    SessionStored,
    Stored,
)
from mqtt_sessions.journals.contract import JournalUnusable, Quarantined
from mqtt_sessions.journals.sqlite_bodies import DAMAGE, Damaged, unpack_copy
from mqtt_sessions.journals.sqlite_rows import LARGEST_ID, UNPACK, Columns
from mqtt_sessions.journals.sqlite_schema import KEYS, reason_of, text_or_bytes, wal_of
from mqtt_sessions.messages import Delivery

__all__ = ["Loading"]


class Loading:
    """One pass over all tables.

    Args:
        connection: Of the journal.
        path: Of its file, for what is told.
        read_only: Leave damaged rows where they are.
        was_alone: There was no log when the file was opened, and so nobody else had it open.
        quarantined: Receives what was set aside.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        read_only: bool,
        was_alone: bool,
        quarantined: list[Quarantined],
    ) -> None:
        self._connection = connection
        self._path = path
        self._read_only = read_only
        self._quarantined = quarantined
        self._was_alone = was_alone
        self._sessions: set[int] = set()
        self._messages: dict[int, MessageStored] = {}
        self._damaged: list[tuple[Columns, str]] = []
        self._damaged_deliveries: set[object] = set()

    def rows(self) -> Iterator[Stored]:
        """All rows in force, each behind those that it names."""
        try:
            yield from self._whole("epoch")
            yield from self._whole("ids")
            yield from self._all_sessions()
            for table in ("subscription", "inbound", "replay"):
                yield from self._of_sessions(table)
            yield from self._whole("will")
            yield from self._whole("retained")
            for message in self._whole("message"):
                self._messages[message.message_id] = message
                yield message
            yield from self._deliveries()
            yield from self._exchanges()
            if self._read_only and self._was_alone and wal_of(self._path).exists():
                raise JournalUnusable(f"{self._path}: it was opened elsewhere while it was read")
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise JournalUnusable(reason_of(self._path, error)) from error

    def _whole(self, table: str) -> Iterator[Any]:
        unpack = UNPACK[table]
        for row in self._connection.execute(f"SELECT * FROM {table}"):
            try:
                change = unpack(row)
            except DAMAGE as error:
                self._damaged.append((row, _told(error)))
            else:
                yield change
        self._set_aside(table)

    def _all_sessions(self) -> Iterator[SessionStored]:
        """Of two sessions of one client the later one is in force."""
        sessions = {session.session_id: session for session in self._whole("session")}
        latest = {session.client_id: session.session_id for session in sessions.values()}
        if len(latest) < len(sessions):
            for row in self._connection.execute("SELECT * FROM session"):
                session = sessions.get(row[0])
                if session is not None and latest[session.client_id] != session.session_id:
                    self._damaged.append((row, "its client has a later session"))
                    del sessions[session.session_id]
            self._set_aside("session")
        self._sessions.update(sessions)
        yield from sessions.values()

    def _of_sessions(self, table: str) -> Iterator[Any]:
        unpack, sessions = UNPACK[table], self._sessions
        for row in self._connection.execute(f"SELECT * FROM {table}"):
            try:
                if row[0] not in sessions:
                    raise Damaged(f"its session {row[0]!r} is missing")
                change = unpack(row)
            except DAMAGE as error:
                self._damaged.append((row, _told(error)))
            else:
                yield change
        self._set_aside(table)

    def _deliveries(self) -> Iterator[DeliveryStored]:
        sessions, messages = self._sessions, self._messages
        alike: dict[object, Delivery] = {}
        for row in self._connection.execute("SELECT * FROM delivery"):
            delivery_id, session_id, body = row
            try:
                if session_id not in sessions:
                    raise Damaged(f"its session {session_id!r} is missing")
                if not 0 < delivery_id <= LARGEST_ID:
                    raise Damaged(f"delivery_id is {delivery_id}, not 1 to {LARGEST_ID}")
                message_id, delivery = unpack_copy(body, delivery_id, messages, alike)
            except DAMAGE as error:
                self._damaged.append((row, _told(error)))
                self._damaged_deliveries.add(delivery_id)
            else:
                yield DeliveryStored(delivery_id, session_id, message_id, delivery)
        self._set_aside("delivery")

    def _exchanges(self) -> Iterator[ExchangeStored]:
        """Exchanges are few, and so are the deliveries that they name."""
        owners: dict[object, object] = dict(
            self._connection.execute(
                "SELECT delivery.delivery_id, delivery.session_id "
                "FROM exchange JOIN delivery USING (delivery_id)"
            )
        )
        for delivery_id in self._damaged_deliveries:
            owners.pop(delivery_id, None)
        unpack, sessions = UNPACK["exchange"], self._sessions
        for row in self._connection.execute("SELECT * FROM exchange"):
            try:
                if row[0] not in sessions:
                    raise Damaged(f"its session {row[0]!r} is missing")
                if row[3] is not None and owners.get(row[3]) != row[0]:
                    raise Damaged(f"its delivery {row[3]!r} is missing")
                change = unpack(row)
            except DAMAGE as error:
                self._damaged.append((row, _told(error)))
            else:
                yield change
        self._set_aside("exchange")

    def _set_aside(self, table: str) -> None:
        """Move the damaged rows of a table to the quarantine, and tell of them."""
        if not self._damaged:
            return
        names = KEYS[table]
        told = [
            Quarantined(table, ", ".join(map(repr, row[: len(names)])), reason)
            for row, reason in self._damaged
        ]
        if not self._read_only:
            execute = self._connection.execute
            execute("BEGIN")
            for (row, reason), each in zip(self._damaged, told, strict=True):
                execute(
                    "INSERT INTO quarantine (source, name, reason, columns) VALUES (?, ?, ?, ?)",
                    (table, each.row, reason, json.dumps([_raw(value) for value in row])),
                )
                key = row[: len(names)]
                where = " AND ".join(map(_is, names, key))
                execute(f"DELETE FROM {table} WHERE {where}", key)
            execute("COMMIT")
        self._quarantined += told
        self._damaged = []


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, Damaged) else f"{type(error).__name__}: {error}"


def _raw(value: object) -> object:
    """A column as JSON: bytes in hexadecimal, in a list of its own."""
    return [value.hex()] if isinstance(value, bytes) else value


def _is(name: str, value: object) -> str:
    """That a column has a value as it was read; a text that is none was read as bytes."""
    if isinstance(value, bytes) and isinstance(text_or_bytes(value), bytes):
        return f"CAST({name} AS BLOB) IS ?"
    return f"{name} IS ?"
