"""What stands in the tables of a SQLite journal for each change, and how it is read again.

Bytes of messages and deliveries are a matter of `sqlite_bodies`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from mqtt_sessions.changes import (
    LARGEST_ID,
    EpochStored,
    ExchangeRemoved,
    ExchangeStored,
    IdsReserved,
    InboundIdRemoved,
    InboundIdStored,
    MessageRemoved,
    MessageStored,
    ReplayRemoved,
    ReplayStored,
    RetainedRemoved,
    RetainedStored,
    SessionStored,
    SubscriptionRemoved,
    SubscriptionStored,
    WillRemoved,
    WillStored,
)
from mqtt_sessions.journals.sqlite_bodies import Damaged, pack_body, unpack_body
from mqtt_sessions.messages import Will
from mqtt_sessions.policy import ExpiryPolicy, OverflowPolicy, SessionLimits
from mqtt_sessions.snapshots import ReplaySnapshot
from mqtt_sessions.subscriptions import Subscription

__all__ = ["LARGEST_ID", "REMOVED", "STORED", "UNPACK", "Columns", "Key"]

Columns: TypeAlias = tuple[Any, ...]
"""A row, as it is bound or read."""

Key: TypeAlias = tuple[Any, ...]
"""The columns that name a row in its table, which are its first."""


# ---------------------------------------------------------------- writing


def _policy_text(policy: ExpiryPolicy | None) -> str | None:
    return None if policy is None else json.dumps(attrs.asdict(policy))


def _limits_text(limits: SessionLimits | None) -> str | None:
    if limits is None:
        return None
    return json.dumps(attrs.asdict(limits) | {"overflow": limits.overflow.value})


def _session(change: SessionStored) -> Columns:
    return (
        change.session_id,
        change.client_id,
        change.epoch,
        change.connected,
        change.protocol_version,
        change.principal,
        change.expiry_interval,
        change.expires_at,
        change.packet_ids_until,
        _policy_text(change.policy),
        _limits_text(change.limits),
    )


def _subscription(change: SubscriptionStored) -> Columns:
    subscription = change.subscription
    return (
        change.session_id,
        subscription.topic_filter,
        subscription.qos
        | subscription.no_local << 2
        | subscription.retain_as_published << 3
        | subscription.retain_handling << 4,
        subscription.subscription_id,
    )


def _exchange(change: ExchangeStored) -> Columns:
    return (
        change.session_id,
        change.packet_id,
        change.place,
        change.delivery_id,
        change.is_abandoned,
    )


def _replay(change: ReplayStored) -> Columns:
    replay = change.replay
    fields = attrs.asdict(replay, recurse=False)
    for name in ("superseded", "offered"):  # instants are floats, whatever a host's clock gives
        fields[name] = [(topic, float(at), event) for topic, at, event in fields[name]]
    if replay.goes_on_at is not None:
        fields["goes_on_at"] = float(replay.goes_on_at)
    return change.session_id, json.dumps(fields)


def _will(change: WillStored) -> Columns:
    will = change.will
    body = pack_body(will.message, will.message.topic_name, 0.0, None, None, None)
    policy = _policy_text(change.policy)
    return change.client_id, change.due_at, change.epoch, will.will_delay_interval, policy, body


def _retained(change: RetainedStored) -> Columns:
    body = pack_body(
        change.message,
        "",
        change.received_at,
        change.expires_at,
        change.message_expiry_interval,
        change.publisher,
    )
    return change.message.topic_name, body


def _message(change: MessageStored) -> Columns:
    body = pack_body(
        change.message,
        change.message.topic_name,
        change.received_at,
        change.expires_at,
        change.message_expiry_interval,
        change.publisher,
    )
    return change.message_id, body


# Deliveries are not here: what they are written as depends on the other rows of their batch.
STORED: dict[type, tuple[str, int, Callable[[Any], Columns]]] = {
    EpochStored: ("epoch", 1, lambda change: (change.epoch, change.started_at, change.alive_at)),
    IdsReserved: ("ids", 1, lambda change: (0, change.below)),
    SessionStored: ("session", 1, _session),
    SubscriptionStored: ("subscription", 2, _subscription),
    InboundIdStored: (
        "inbound",
        2,
        lambda change: (change.session_id, change.packet_id, change.ends_at),
    ),
    ReplayStored: ("replay", 1, _replay),
    WillStored: ("will", 1, _will),
    RetainedStored: ("retained", 1, _retained),
    MessageStored: ("message", 1, _message),
    ExchangeStored: ("exchange", 2, _exchange),
}
"""By the class of a change: its table, how many columns its key has, and its columns."""

REMOVED: dict[type, tuple[str, Callable[[Any], Key]]] = {
    SubscriptionRemoved: ("subscription", lambda change: (change.session_id, change.topic_filter)),
    InboundIdRemoved: ("inbound", lambda change: (change.session_id, change.packet_id)),
    ReplayRemoved: ("replay", lambda change: (change.session_id,)),
    WillRemoved: ("will", lambda change: (change.client_id,)),
    RetainedRemoved: ("retained", lambda change: (change.topic_name,)),
    MessageRemoved: ("message", lambda change: (change.message_id,)),
    ExchangeRemoved: ("exchange", lambda change: (change.session_id, change.packet_id)),
}
"""By the class of a change: its table, and the key of the row that is gone."""


# ---------------------------------------------------------------- reading


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise Damaged(reason)


def _integer(number: object, low: int, high: int, name: str) -> int:
    if type(number) is not int or not low <= number <= high:
        raise Damaged(f"{name} is {number!r}, not {low} to {high}")
    return number


def _identifier(number: object, name: str, low: int = 0) -> int:
    return _integer(number, low, LARGEST_ID, name)


def _flag(number: object, name: str) -> bool:
    return _integer(number, 0, 1, name) == 1


def _instant(number: object, name: str) -> float:
    if not isinstance(number, float):
        raise Damaged(f"{name} is {number!r}, and no number")
    return number


def _instant_or_none(number: object, name: str) -> float | None:
    return None if number is None else _instant(number, name)


def _text(text: object, name: str) -> str:
    if not isinstance(text, str):
        raise Damaged(f"{name} is {text!r}, and no text")
    return text


def _text_or_none(text: object, name: str) -> str | None:
    return None if text is None else _text(text, name)


def _policy(text: object) -> ExpiryPolicy | None:
    return None if text is None else ExpiryPolicy(**json.loads(_text(text, "policy")))


def _limits(text: object) -> SessionLimits | None:
    if text is None:
        return None
    fields = json.loads(_text(text, "limits"))
    return SessionLimits(**(fields | {"overflow": OverflowPolicy(fields["overflow"])}))


def _read_epoch(row: Columns) -> EpochStored:
    epoch, started_at, alive_at = row
    return EpochStored(
        _identifier(epoch, "epoch"),
        _instant(started_at, "started_at"),
        _instant(alive_at, "alive_at"),
    )


def _read_ids(row: Columns) -> IdsReserved:
    only, below = row
    _require(only == 0, "there is one such row")
    return IdsReserved(_identifier(below, "below"))


def _read_session(row: Columns) -> SessionStored:
    session_id, client_id, epoch, connected, version, principal, interval, at, until = row[:9]
    interval = _instant_or_none(interval, "expiry_interval")
    _require(interval is None or interval >= 0, f"expiry_interval is {interval!r}")
    _require(client_id != "", "client_id is empty")
    return SessionStored(
        _identifier(session_id, "session_id", 1),
        _text(client_id, "client_id"),
        _identifier(epoch, "epoch"),
        _flag(connected, "connected"),
        _integer(version, 3, 5, "protocol_version"),
        _text_or_none(principal, "principal"),
        interval,
        _instant_or_none(at, "expires_at"),
        _integer(until, 0, 65_535, "packet_ids_until"),
        _policy(row[9]),
        _limits(row[10]),
    )


_OPTIONS = {
    qos | no_local << 2 | as_published << 3 | handling << 4: (
        qos,
        no_local == 1,
        as_published == 1,
        handling,
    )
    for qos in range(3)
    for no_local in range(2)
    for as_published in range(2)
    for handling in range(3)
}
"""Subscription options as SUBSCRIBE has them [MQTT 5.0 §3.8.3.1]."""


def _read_subscription(row: Columns) -> SubscriptionStored:
    session_id, topic_filter, packed, subscription_id = row
    options = _OPTIONS.get(packed)
    if options is None:
        raise Damaged(f"options is {packed!r}")
    if type(topic_filter) is not str:
        raise Damaged("topic_filter is no text")
    if subscription_id is not None:
        _integer(subscription_id, 1, 268_435_455, "subscription_id")
    qos, no_local, as_published, handling = options
    return SubscriptionStored(
        session_id,
        Subscription(topic_filter, qos, no_local, as_published, handling, subscription_id),
    )


def _read_inbound(row: Columns) -> InboundIdStored:
    session_id, packet_id, ends_at = row
    packet_id = _integer(packet_id, 1, 65_535, "packet_id")
    return InboundIdStored(session_id, packet_id, _instant_or_none(ends_at, "ends_at"))


def _read_exchange(row: Columns) -> ExchangeStored:
    session_id, packet_id, place, delivery_id, is_abandoned = row
    if delivery_id is not None:
        _identifier(delivery_id, "delivery_id")
    return ExchangeStored(
        session_id,
        _integer(packet_id, 1, 65_535, "packet_id"),
        _identifier(place, "place"),
        delivery_id,
        _flag(is_abandoned, "is_abandoned"),
    )


def _read_replay(row: Columns) -> ReplayStored:
    session_id, text = row
    fields = json.loads(_text(text, "replay"))
    cursors = tuple(
        (
            _text(topic_filter, "a filter"),
            _text_or_none(topic, "a cursor"),
            _identifier(event, "event"),
        )
        for topic_filter, topic, event in fields["cursors"]
    )
    superseded, offered = (
        tuple(
            (_text(topic, "a topic"), _instant(at, "an arrival"), _identifier(event, "event"))
            for topic, at, event in fields[name]
        )
        for name in ("superseded", "offered")
    )
    retained_first, goes_on_at = fields["retained_first"], fields["goes_on_at"]
    _require(isinstance(retained_first, bool), "retained_first is no flag")
    goes_on_at = _instant_or_none(goes_on_at, "goes_on_at")
    event = _identifier(fields["event"], "event")
    return ReplayStored(
        session_id,
        ReplaySnapshot(cursors, superseded, offered, event, retained_first, goes_on_at),
    )


def _read_will(row: Columns) -> WillStored:
    client_id, due_at, epoch, delay, policy, body = row
    will = Will(unpack_body(body).message, _integer(delay, 0, 0xFFFFFFFF, "will_delay_interval"))
    return WillStored(
        _text(client_id, "client_id"),
        will,
        _instant_or_none(due_at, "due_at"),
        _identifier(epoch, "epoch"),
        _policy(policy),
    )


def _read_retained(row: Columns) -> RetainedStored:
    topic_name, body = row
    given = unpack_body(body, _text(topic_name, "topic_name"))
    return RetainedStored(
        given.message,
        given.received_at,
        given.expires_at,
        given.message_expiry_interval,
        given.publisher,
    )


def _read_message(row: Columns) -> MessageStored:
    message_id, body = row
    given = unpack_body(body)
    return MessageStored(
        _identifier(message_id, "message_id", 1),
        given.message,
        given.received_at,
        given.expires_at,
        given.message_expiry_interval,
        given.publisher,
    )


UNPACK: dict[str, Callable[[Columns], Any]] = {
    "epoch": _read_epoch,
    "ids": _read_ids,
    "session": _read_session,
    "subscription": _read_subscription,
    "inbound": _read_inbound,
    "replay": _read_replay,
    "will": _read_will,
    "retained": _read_retained,
    "message": _read_message,
    "exchange": _read_exchange,
}
"""By table: what a row was; one that is damaged raises one of `DAMAGE`."""
