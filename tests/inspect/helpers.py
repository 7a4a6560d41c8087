"""A journal whose every figure is known."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from mqtt_sessions.changes import (
    DeliveryStored,
    EpochStored,
    ExchangeStored,
    IdsReserved,
    InboundIdStored,
    MessageStored,
    ReplayStored,
    RetainedStored,
    SessionStored,
    Stored,
    SubscriptionStored,
    WillStored,
)
from mqtt_sessions.journals import SQLiteJournal
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.snapshots import ReplaySnapshot
from mqtt_sessions.subscriptions import Subscription

NOW = 100_000.0
SECRET = b"a secret payload"
SHARED = Message("news", SECRET, 2)
ALONE = Message("alarm", b"secret", 1, message_expiry_interval=600)


def session(session_id: int, client_id: str, **fields: object) -> SessionStored:
    """Parked, and it ends 57 minutes after `NOW`."""
    values: dict[str, object] = {
        "epoch": 2,
        "connected": False,
        "protocol_version": 5,
        "principal": None,
        "expiry_interval": 3600.0,
        "expires_at": NOW + 57 * 60,
        "packet_ids_until": 0,
        "policy": None,
        "limits": None,
    }
    return SessionStored(session_id, client_id, **(values | fields))  # type: ignore[arg-type]


def copy(delivery_id: int, session_id: int, qos: int = 2) -> DeliveryStored:
    delivery = Delivery(SHARED, qos, received_at=NOW - 12, publisher="press")
    return DeliveryStored(delivery_id, session_id, 10, delivery)


def alone(delivery_id: int, session_id: int, expires_at: float | None = None) -> DeliveryStored:
    delivery = Delivery(ALONE, 1, received_at=NOW - 7200, expires_at=expires_at)
    return DeliveryStored(delivery_id, session_id, None, delivery)


ROWS: tuple[Stored, ...] = (
    EpochStored(1, NOW - 90_000, NOW - 40_000),
    EpochStored(2, NOW - 3 * 3600, NOW - 130),
    IdsReserved(1000),
    session(1, "alice", principal="al"),
    session(2, "bob", connected=True, expires_at=None, protocol_version=4),
    session(3, "carol", epoch=1, connected=True, expires_at=None, expiry_interval=100_000.0),
    session(4, "dora", expiry_interval=None, expires_at=None, protocol_version=3),
    session(5, "erik", expires_at=NOW - 12),
    SubscriptionStored(1, Subscription("news", 2)),
    SubscriptionStored(1, Subscription("alarm", 1, True, True, 2, 7)),
    SubscriptionStored(2, Subscription("news", 2)),
    InboundIdStored(1, 9, NOW + 59),
    InboundIdStored(1, 4, None),
    ReplayStored(1, ReplaySnapshot((("alarm", None, 1),), (), (), 1, True, None)),
    WillStored("alice", Will(Message("lost/alice", b"gone", 1, True), 30), NOW + 3, 2, None),
    WillStored("bob", Will(Message("lost/bob", b"x"), 300), None, 2, None),
    WillStored("zoe", Will(Message("lost/zoe", b"xy"), 300), None, 2, None),
    RetainedStored(Message("state", b"retained", 1, True), NOW - 5, None, None, None),
    MessageStored(10, SHARED, NOW - 12, None, None, "press"),
    copy(20, 1),
    copy(21, 2),
    alone(22, 1, NOW + 3 * 86_400),
    alone(23, 1, NOW - 1),
    copy(24, 1),
    ExchangeStored(1, 2, 30, 20),
    ExchangeStored(1, 1, 31, None),
    ExchangeStored(1, 3, 32, None, True),
)


def written(path: Path, rows: Sequence[Stored] = ROWS) -> Path:
    """A journal with these rows, which nobody holds."""
    journal = SQLiteJournal(path)
    journal.commit(rows)
    journal.close()
    return path


def alter(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        assert connection.execute(statement).rowcount == 1
    connection.commit()
    connection.close()
