"""Damaged rows of a SQLite journal: set aside, told, and everything else is loaded."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtt_sessions.changes import (
    Change,
    DeliveryStored,
    EpochStored,
    ExchangeStored,
    IdsReserved,
    InboundIdStored,
    MessageStored,
    ReplayStored,
    RetainedStored,
    Row,
    SessionStored,
    Stored,
    SubscriptionStored,
    WillStored,
    row_of,
)
from mqtt_sessions.journals import JournalUnusable, SQLiteJournal, sqlite_salvage
from mqtt_sessions.journals import sqlite_schema as schema
from mqtt_sessions.journals.sqlite_bodies import DAMAGE, unpack_body, unpack_copy
from mqtt_sessions.journals.sqlite_schema import PAGE_SIZE, wal_of
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.policy import ExpiryPolicy, SessionLimits
from mqtt_sessions.snapshots import ReplaySnapshot
from mqtt_sessions.subscriptions import Subscription

if sys.platform != "win32":
    import resource

PLAIN = Message("t", b"payload", 1)
RICH = Message("t", b"p", 1, True, 9, 1, "text", "a/b", b"\xff", (("n", "v"),))


def delivery(message: Message, ids: tuple[int, ...] = ()) -> Delivery:
    return Delivery(message, 1, False, ids, 0.5)


BATCH: tuple[Stored, ...] = (
    EpochStored(1, 0.5, 1.5),
    IdsReserved(1000),
    *(
        SessionStored(n, f"c{n}", 1, False, 5, None, 1.0, 2.0, 3, ExpiryPolicy(), SessionLimits())
        for n in (1, 2)
    ),
    SubscriptionStored(1, Subscription("f")),
    SubscriptionStored(2, Subscription("f", 1, True, True, 2, 7)),
    InboundIdStored(1, 4, 0.5),
    InboundIdStored(2, 4, None),
    ReplayStored(1, ReplaySnapshot((("f", None, 1),), (), (), 1, True, None)),
    ReplayStored(2, ReplaySnapshot((), (), (), 1, False, 0.5)),
    WillStored("c1", Will(PLAIN), 1.5, 1, None),
    WillStored("c2", Will(RICH, 3), None, 1, ExpiryPolicy()),
    RetainedStored(PLAIN, 0.5, None, None, None),
    RetainedStored(attrs.evolve(RICH, topic_name="u"), 0.5, 1.5, 9, "c1"),
    MessageStored(10, PLAIN, 0.5, None, None, None),
    MessageStored(11, RICH, 0.5, 1.5, 9, "c1"),
    DeliveryStored(20, 1, 10, delivery(PLAIN)),
    DeliveryStored(21, 2, 10, delivery(PLAIN)),
    DeliveryStored(22, 2, 11, delivery(RICH, (1, 2))),
    DeliveryStored(23, 1, None, delivery(PLAIN)),
    DeliveryStored(24, 2, None, delivery(RICH, (5,))),
    ExchangeStored(1, 1, 30, 20),
    ExchangeStored(2, 1, 31, None, True),
)

OF_SESSION_1: set[Row] = {
    ("session", 1),
    ("subscription", 1, "f"),
    ("inbound", 1, 4),
    ("replay", 1),
    ("delivery", 20),
    ("delivery", 23),
    ("exchange", 1, 1),
}
OF_MESSAGE_10: set[Row] = {("message", 10), ("delivery", 20), ("delivery", 21), ("exchange", 1, 1)}

# What is done to the file, what is lost, and why.
DAMAGES: list[tuple[str, set[Row], str]] = [
    ("UPDATE epoch SET alive_at = 'now'", {("epoch", 1)}, "alive_at is 'now', and no number"),
    ("UPDATE epoch SET alive_at = NULL", {("epoch", 1)}, "alive_at is None"),
    ("UPDATE ids SET below = -1", {("ids",)}, "below is -1"),
    (f"UPDATE ids SET below = {2**63 - 1}", {("ids",)}, "below is 9"),
    (f"UPDATE epoch SET epoch = {2**63 - 1}", {("epoch", 1)}, "epoch is 9"),
    (f"UPDATE exchange SET place = {2**63 - 1} WHERE session_id = 1", {("exchange", 1, 1)}, "pl"),
    (
        f"UPDATE delivery SET delivery_id = {2**63 - 1} WHERE delivery_id = 23",
        {("delivery", 23)},
        "delivery_id is 9",
    ),
    ("UPDATE delivery SET delivery_id = -1 WHERE delivery_id = 23", {("delivery", 23)}, "is -1"),
    ("UPDATE message SET message_id = 0 WHERE message_id = 10", OF_MESSAGE_10, "message_id is 0"),
    ("UPDATE session SET session_id = 0 WHERE session_id = 1", OF_SESSION_1, "session_id is 0"),
    ("UPDATE ids SET only = 1", {("ids",)}, "there is one such row"),
    ("UPDATE session SET client_id = x'00' WHERE session_id = 1", OF_SESSION_1, "no text"),
    ("UPDATE session SET client_id = '' WHERE session_id = 1", OF_SESSION_1, "client_id is empty"),
    ("UPDATE session SET client_id = 'c2' WHERE session_id = 1", OF_SESSION_1, "a later session"),
    ("UPDATE session SET protocol_version = 6 WHERE session_id = 1", OF_SESSION_1, "3 to 5"),
    ("UPDATE session SET packet_ids_until = 65536 WHERE session_id = 1", OF_SESSION_1, "65535"),
    ("UPDATE session SET connected = 2 WHERE session_id = 1", OF_SESSION_1, "connected is 2"),
    ("UPDATE session SET epoch = 'x' WHERE session_id = 1", OF_SESSION_1, "epoch is 'x'"),
    ("UPDATE session SET principal = x'05' WHERE session_id = 1", OF_SESSION_1, "principal is"),
    ("UPDATE session SET expiry_interval = -1 WHERE session_id = 1", OF_SESSION_1, "expiry_int"),
    ("UPDATE session SET policy = '{' WHERE session_id = 1", OF_SESSION_1, "JSONDecodeError"),
    ("UPDATE session SET policy = '{\"x\": 1}' WHERE session_id = 1", OF_SESSION_1, "'x'"),
    (
        "UPDATE session SET policy = '{\"retry_interval\": -1}' WHERE session_id = 1",
        OF_SESSION_1,
        "InvalidValue",
    ),
    ("UPDATE session SET limits = '[]' WHERE session_id = 1", OF_SESSION_1, "TypeError"),
    ("UPDATE session SET limits = '{}' WHERE session_id = 1", OF_SESSION_1, "KeyError"),
    ("DELETE FROM session WHERE session_id = 1", OF_SESSION_1, "its session 1 is missing"),
    ("UPDATE subscription SET options = 3 WHERE session_id = 1", {("subscription", 1, "f")}, "3"),
    (
        "UPDATE subscription SET subscription_id = 268435456 WHERE session_id = 2",
        {("subscription", 2, "f")},
        "subscription_id is 268435456",
    ),
    (
        "UPDATE subscription SET topic_filter = x'66' WHERE session_id = 1",
        {("subscription", 1, "f")},
        "no text",
    ),
    ("UPDATE inbound SET packet_id = 0 WHERE session_id = 1", {("inbound", 1, 4)}, "packet_id"),
    ("UPDATE inbound SET ends_at = 'x' WHERE session_id = 1", {("inbound", 1, 4)}, "ends_at"),
    ("UPDATE replay SET replay = '{}' WHERE session_id = 1", {("replay", 1)}, "KeyError"),
    ("UPDATE replay SET replay = '[[' WHERE session_id = 1", {("replay", 1)}, "JSONDecodeError"),
    (
        "UPDATE replay SET replay = replace(replay, '\"f\"', 5) WHERE session_id = 1",
        {("replay", 1)},
        "a filter is 5, and no text",
    ),
    ("UPDATE will SET body = x'' WHERE client_id = 'c1'", {("will", "c1")}, "error"),
    ("UPDATE will SET will_delay_interval = -1 WHERE client_id = 'c1'", {("will", "c1")}, "-1"),
    ("UPDATE will SET policy = 'x' WHERE client_id = 'c1'", {("will", "c1")}, "JSON"),
    ("UPDATE retained SET body = NULL WHERE topic_name = 't'", {("retained", "t")}, "bytes"),
    ("UPDATE retained SET body = 'text' WHERE topic_name = 't'", {("retained", "t")}, "bytes"),
    (
        "UPDATE message SET body = substr(body, 1, 10) WHERE message_id = 10",
        OF_MESSAGE_10,
        "error",
    ),
    ("UPDATE message SET body = x'03' || substr(body, 2) WHERE message_id = 10", OF_MESSAGE_10, ""),
    ("DELETE FROM message WHERE message_id = 10", OF_MESSAGE_10, "its message 10 is missing"),
    (
        "UPDATE delivery SET session_id = 99 WHERE delivery_id = 23",
        {("delivery", 23)},
        "its session 99 is missing",
    ),
    ("UPDATE delivery SET session_id = NULL WHERE delivery_id = 23", {("delivery", 23)}, "None"),
    ("UPDATE delivery SET body = NULL WHERE delivery_id = 23", {("delivery", 23)}, "TypeError"),
    ("UPDATE delivery SET body = 'text' WHERE delivery_id = 23", {("delivery", 23)}, "TypeError"),
    ("UPDATE delivery SET body = x'' WHERE delivery_id = 23", {("delivery", 23)}, "IndexError"),
    ("UPDATE delivery SET body = x'0102' WHERE delivery_id = 23", {("delivery", 23)}, "error"),
    (
        "UPDATE delivery SET body = cast(x'0103' || substr(body, 3) AS BLOB) "
        "WHERE delivery_id = 23",
        {("delivery", 23)},
        "out of range",
    ),
    (
        "UPDATE delivery SET body = cast(body || x'00' AS BLOB) WHERE delivery_id = 22",
        {("delivery", 22)},
        "behind its end",
    ),
    (
        "DELETE FROM delivery WHERE delivery_id = 20",
        {("delivery", 20), ("exchange", 1, 1)},
        "its delivery 20 is missing",
    ),
    ("UPDATE exchange SET packet_id = 65536 WHERE session_id = 1", {("exchange", 1, 1)}, "65536"),
    ("UPDATE exchange SET is_abandoned = 2 WHERE session_id = 1", {("exchange", 1, 1)}, "is_aband"),
    ("UPDATE exchange SET place = NULL WHERE session_id = 1", {("exchange", 1, 1)}, "place"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.db"
    journal = SQLiteJournal(path)
    journal.commit(BATCH)
    journal.close()
    return path


def damage(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        assert connection.execute(statement).rowcount == 1
    connection.commit()
    connection.close()


def rows(journal: SQLiteJournal) -> dict[Row, Stored]:
    return {row_of(row): row for row in journal.load()}


NO_TEXT = "UPDATE {} SET {} = cast(x'ff' AS TEXT) WHERE {} = 1"
DAMAGES += [
    (NO_TEXT.format("session", "client_id", "session_id"), OF_SESSION_1, "client_id is b'\\xff'"),
    (NO_TEXT.format("session", "policy", "session_id"), OF_SESSION_1, "policy is b'\\xff'"),
    (
        NO_TEXT.format("subscription", "topic_filter", "session_id"),
        {("subscription", 1, "f")},
        "topic_filter is no text",
    ),
    (
        "UPDATE will SET client_id = cast(x'ff' AS TEXT) WHERE client_id = 'c1'",
        {("will", "c1")},
        "client_id is b'\\xff'",
    ),
]


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    ("statement", "lost", "reason"), DAMAGES, ids=[statement for statement, _, _ in DAMAGES]
)
def test_a_damaged_row_is_set_aside_and_the_rest_is_loaded(
    path: Path, statement: str, lost: set[Row], reason: str
) -> None:
    damage(path, statement)
    before = path.read_bytes()
    journal = SQLiteJournal(path, read_only=True)
    seen = rows(journal)
    told = journal.quarantined
    journal.close()
    assert path.read_bytes() == before

    journal = SQLiteJournal(path)
    found = rows(journal)
    assert found == seen
    assert found == {row_of(row): row for row in BATCH if row_of(row) not in lost}
    assert journal.quarantined == told
    assert reason in " ".join(each.reason for each in told)
    kept = journal._connection.execute("SELECT source, name, reason FROM quarantine").fetchall()
    assert kept == [(each.table, each.row, each.reason) for each in told]
    assert tuple(journal.quarantine()) == told

    # From then on it is a journal like any other.
    assert rows(journal) == found
    assert journal.quarantined == ()
    missing: list[Change] = [row for row in BATCH if row_of(row) not in found]
    journal.commit(missing)
    assert set(rows(journal)) == {row_of(row) for row in BATCH}
    journal.close()


def test_what_was_set_aside_is_kept_column_by_column(path: Path) -> None:
    damage(path, "UPDATE delivery SET body = x'ff00', session_id = 7 WHERE delivery_id = 23")
    journal = SQLiteJournal(path)
    rows(journal)
    (each,) = journal.quarantined
    assert (each.table, each.row) == ("delivery", "23")
    (columns,) = journal._connection.execute("SELECT columns FROM quarantine").fetchone()
    assert json.loads(columns) == [23, 7, ["ff00"]]
    journal.close()


def test_a_quarantine_that_cannot_be_read(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE quarantine")
    connection.close()
    journal = SQLiteJournal(path, read_only=True)
    with pytest.raises(JournalUnusable, match=r"sessions\.db: .*no such table: quarantine"):
        list(journal.quarantine())
    journal.close()


def test_an_exchange_of_somebody_elses_delivery(path: Path) -> None:
    damage(path, "UPDATE delivery SET session_id = 2 WHERE delivery_id = 20")
    journal = SQLiteJournal(path)
    found = rows(journal)
    assert ("exchange", 1, 1) not in found
    assert len(found) == len(BATCH) - 1
    assert [each.table for each in journal.quarantined] == ["exchange"]
    journal.close()


def test_bytes_that_stand_beside_the_same_text(path: Path) -> None:
    damage(path, "INSERT INTO subscription VALUES (1, x'66', 0, NULL)")
    journal = SQLiteJournal(path)
    assert set(rows(journal)) == set(rows(journal)) == {row_of(row) for row in BATCH}
    journal.close()


def test_several_damaged_rows_are_all_set_aside(path: Path) -> None:
    damage(path, *(f"UPDATE delivery SET body = x'00' WHERE delivery_id = {n}" for n in (23, 24)))
    journal = SQLiteJournal(path)
    found = rows(journal)
    assert {row_of(row) for row in BATCH} - set(found) == {("delivery", 23), ("delivery", 24)}
    assert [each.row for each in journal.quarantined] == ["23", "24"]
    journal.close()


# ---------------------------------------------------------------- any bytes at all


@settings(max_examples=300)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_message_or_damaged(body: bytes) -> None:
    try:
        found = unpack_body(body)
    except DAMAGE:
        return
    assert found.qos in range(3)
    assert found.message.qos in range(3)


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=40), st.booleans())
def test_any_bytes_are_a_copy_or_damaged(body: bytes, is_copy: bool) -> None:
    if is_copy:
        body = bytes((body[0], 0x21, *body[1:]))
    row = MessageStored(10, PLAIN, 0.5, None, None, None)
    try:
        message_id, found = unpack_copy(body, 10 + 5, {10: row}, {})
    except DAMAGE:
        return
    assert found.qos in range(3)
    assert (message_id is None) == (found.message is not PLAIN)


# ---------------------------------------------------------------- damaged pages


def large(path: Path) -> list[Stored]:
    given: list[Stored] = [BATCH[2]]
    given += [SubscriptionStored(1, Subscription(f"f/{n:05}/{'x' * 50}")) for n in range(2000)]
    given += [DeliveryStored(n, 1, None, delivery(PLAIN)) for n in range(100, 3000)]
    journal = SQLiteJournal(path)
    journal.commit(given)
    journal.close()
    return given


def pages_of(path: Path, table: str) -> list[int]:
    connection = sqlite3.connect(path)
    found = connection.execute(
        "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", (table,)
    ).fetchall()
    connection.close()
    return [number for (number,) in found]


def overwrite(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_SIZE)
        file.write(b"\xa5" * PAGE_SIZE)


@pytest.mark.fault(42)
@pytest.mark.parametrize("count", [1, 3])
def test_a_damaged_page_of_deliveries_costs_what_stood_on_it(path: Path, count: int) -> None:
    path.unlink()
    given = large(path)
    pages = pages_of(path, "delivery")
    assert len(pages) > 6
    for page in pages[1::2][:count]:
        overwrite(path, page)
    damaged = path.read_bytes()
    with pytest.raises(JournalUnusable, match="pages are damaged; the next start"):
        list(SQLiteJournal(path, read_only=True).load())
    assert path.read_bytes() == damaged

    journal = SQLiteJournal(path)
    found = rows(journal)
    lost = [row for row in given if row_of(row) not in found]
    assert found == {row_of(row): row for row in given if row not in lost}
    assert 0 < len(lost) <= count * len(given) // len(pages)
    assert all(isinstance(row, DeliveryStored) for row in lost)
    assert all("pages are damaged" in each.reason for each in journal.quarantined)
    told = [tuple(map(int, each.row.split()[1::2])) for each in journal.quarantined]
    for row in lost:
        assert isinstance(row, DeliveryStored)
        assert any(low <= row.delivery_id <= high for low, high in told)
    kept = path.with_name("sessions.db-damaged-1")
    assert kept.read_bytes() == damaged

    # From then on it is a journal like any other.
    journal.commit(lost)
    journal.close()
    assert {each.name for each in path.parent.iterdir()} == {path.name, kept.name}
    journal = SQLiteJournal(path)
    assert rows(journal) == {row_of(row): row for row in given}
    assert journal.quarantined == ()
    journal.close()


def test_a_damaged_page_of_subscriptions_is_approached_from_both_ends(path: Path) -> None:
    path.unlink()
    given = large(path)
    pages = pages_of(path, "subscription")
    overwrite(path, pages[len(pages) // 2])
    journal = SQLiteJournal(path)
    found = rows(journal)
    lost = [row for row in given if row_of(row) not in found]
    assert all(isinstance(row, SubscriptionStored) for row in lost)
    assert 0 < len(lost) <= 3 * 2000 // len(pages)
    assert [each.table for each in journal.quarantined] == ["subscription"]
    journal.close()


def test_rows_in_the_log_survive_damage_of_the_file(path: Path, tmp_path: Path) -> None:
    given = large(tmp_path / "other.db")
    journal = SQLiteJournal(tmp_path / "other.db")
    list(journal.load())
    late = DeliveryStored(9000, 1, None, delivery(PLAIN))
    journal.commit([late])
    left = [
        (tmp_path / f"left{each}", Path(f"{tmp_path / 'other.db'}{each}")) for each in ("", "-wal")
    ]
    for target, source in left:
        target.write_bytes(source.read_bytes())
    journal.close()
    overwrite(left[0][0], pages_of(tmp_path / "other.db", "delivery")[1])
    journal = SQLiteJournal(left[0][0])
    found = rows(journal)
    assert found[row_of(late)] == late
    assert len(given) * 9 // 10 < len(found) < len(given)
    journal.close()


class _FullAfterCommit:
    """A connection whose disk has no room any more once its transaction is in the log."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.executemany = connection.executemany
        self.close = connection.close

    def execute(self, sql: str) -> sqlite3.Cursor:
        cursor = self._connection.execute(sql)
        if sql == "COMMIT":
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4 * PAGE_SIZE, hard))
        return cursor


def test_a_key_that_is_out_of_order_is_put_in_its_place(path: Path) -> None:
    journal = SQLiteJournal(path)
    held = [InboundIdStored(1, number, 5.5) for number in range(100, 140)]
    assert set(rows(journal)) == {row_of(row) for row in BATCH}
    journal.commit(held)
    journal.close()
    content = path.read_bytes()
    record = bytes((4, 9, 1, 7, 120))  # its head, and its second column; the first is in the head
    assert content.count(record) == 1
    path.write_bytes(content.replace(record, bytes((4, 9, 1, 7, 0x80))))
    expected = {row_of(row) for row in (*BATCH, *held) if row_of(row) != ("inbound", 1, 120)}
    journal = SQLiteJournal(path)
    assert set(rows(journal)) == expected
    assert [(each.table, each.row) for each in journal.quarantined] == [("inbound", "1, -128")]
    journal.close()
    journal = SQLiteJournal(path)
    assert set(rows(journal)) == expected
    assert journal.quarantined == ()
    journal.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of the size of files")
def test_a_disk_that_is_full_when_all_is_read_leaves_the_damaged_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.unlink()
    large(path)
    overwrite(path, pages_of(path, "delivery")[1])
    damaged = path.read_bytes()
    journal = SQLiteJournal(path)

    def open_full(path: Path, *, read_only: bool) -> _FullAfterCommit:
        return _FullAfterCommit(schema.open_file(path, read_only=read_only))

    monkeypatch.setattr(sqlite_salvage, "open_file", open_full)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(JournalUnusable):
            journal.load()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    journal.close()
    assert path.read_bytes() == damaged
    assert [each.name for each in path.parent.iterdir() if "salvaged" in each.name] == []
    journal = SQLiteJournal(path)
    assert len(rows(journal)) > 4000
    journal.close()


def test_a_file_whose_head_is_damaged_is_refused(path: Path) -> None:
    overwrite(path, 1)
    with pytest.raises(JournalUnusable, match="no session journal"):
        SQLiteJournal(path)
    assert not wal_of(path).exists()
