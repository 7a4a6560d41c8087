"""Whether a snapshot is a state that a store or a session can be in.

A snapshot that `snapshot` gave always is. One that was stored, moved or written by hand may not be,
and would fail much later, somewhere else. What is looked at is what belongs together; the types of
single fields are not.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable

from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.packet_ids import MAX_PACKET_ID
from mqtt_sessions.snapshots import (
    SNAPSHOT_VERSION,
    ConnectionSnapshot,
    SessionContents,
    SessionSnapshot,
    StoreSnapshot,
)
from mqtt_sessions.turn import SizeOf

__all__ = ["check_snapshot"]


def check_snapshot(
    snapshot: object, kind: type[SessionSnapshot] | type[StoreSnapshot], size_of: SizeOf | None
) -> None:
    """Whether a snapshot is of this kind and format, and whole.

    Raises:
        InvalidValue: It is not; the message names the field and the rule.

    *Cost* O(what it holds).
    """
    if not isinstance(snapshot, kind):
        raise InvalidValue(
            f"snapshot must be of type {kind.__name__}, not {type(snapshot).__name__}"
        )
    own = kind.__name__
    if snapshot.version != SNAPSHOT_VERSION:
        raise InvalidValue(f"{own}.version must be {SNAPSHOT_VERSION}, not {snapshot.version!r}")
    if snapshot.has_size_of and size_of is None:
        raise InvalidValue(f"{own}.has_size_of is true: restore must be given a size_of too")
    if not isinstance(snapshot.now, float) or not math.isfinite(snapshot.now):
        raise InvalidValue(f"{own}.now must be a finite float, not {snapshot.now!r}")
    _check_unique(f"{own}.connections", snapshot.connections)
    if isinstance(snapshot, StoreSnapshot):
        _check_store(snapshot)
        return
    contents = snapshot.contents
    if contents is None:
        return
    if contents.client_id != snapshot.client_id:
        raise InvalidValue(
            f"{own}.contents.client_id must be {snapshot.client_id!r}, not {contents.client_id!r}"
        )
    _check_contents(f"{own}.contents", contents)


def _check_store(snapshot: StoreSnapshot) -> None:
    own = "StoreSnapshot"
    _check_unique(f"{own}.sessions", [each.client_id for each in snapshot.sessions])
    open_ = [each.connection.connection for each in snapshot.sessions if each.connection]
    _check_unique(f"{own}.sessions", open_)
    strangers = set(open_) - set(snapshot.connections)
    if strangers:
        raise InvalidValue(f"{own}.connections lacks {strangers!r}, which sessions have")
    for index, contents in enumerate(snapshot.sessions):
        _check_contents(f"{own}.sessions[{index}]", contents)
    topics = [each.message.topic_name for each in snapshot.retained]
    _check_unique(f"{own}.retained", topics)
    names = {each.client_id for each in snapshot.sessions}
    for index, fanout in enumerate(snapshot.will_fanouts):
        where = f"{own}.will_fanouts[{index}].remaining"
        receivers = [client_id for client_id, _ in fanout.remaining]
        _check_unique(where, receivers)
        if not receivers or not names.issuperset(receivers):
            raise InvalidValue(f"{where} must name sessions, not {receivers!r}")


def _check_contents(where: str, contents: SessionContents) -> None:
    filters = [each.topic_filter for each in contents.subscriptions]
    _check_unique(f"{where}.subscriptions", filters)
    in_flight = [packet_id for packet_id, _ in contents.in_flight]
    _check_ids(f"{where}.in_flight", in_flight)
    _check_ids(f"{where}.inbound", [packet_id for packet_id, _ in contents.inbound])
    released = {packet_id for packet_id, delivery in contents.in_flight if delivery is None}
    if not released.issuperset(contents.abandoned):
        raise InvalidValue(f"{where}.abandoned must be in the PUBREL phase in in_flight")
    connection = contents.connection
    ends = contents.expires_at is not None
    if ends != (connection is None and contents.expiry_interval is not None):
        raise InvalidValue(
            f"{where}.expires_at must be there if, and only if, there is no connection and an "
            f"expiry_interval, not {contents.expires_at!r}"
        )
    due = contents.will_due_at
    if due is not None and (connection is not None or contents.will is None):
        raise InvalidValue(f"{where}.will_due_at must be None without a will that waits")
    if connection is not None:
        _check_connection(f"{where}.connection", connection, set(in_flight), released)
    if contents.replay is not None:
        called_up = [each for each, _, _ in contents.replay.cursors]
        if not set(filters).issuperset(called_up):
            raise InvalidValue(f"{where}.replay.cursors must name subscriptions, not {called_up!r}")


def _check_connection(
    where: str, link: ConnectionSnapshot, in_flight: set[int], released: set[int]
) -> None:
    _check_ids(f"{where}.unsent", link.unsent)
    _check_ids(f"{where}.inbound_units", link.inbound_units)
    if not (in_flight - released).issuperset(link.unsent):
        raise InvalidValue(f"{where}.unsent must be PUBLISHes in in_flight, not {link.unsent!r}")
    if not released.issuperset(link.unitless):
        raise InvalidValue(f"{where}.unitless must be in the PUBREL phase in in_flight")
    if not in_flight.issuperset(packet_id for packet_id, _ in link.sent_at):
        raise InvalidValue(f"{where}.sent_at must name what is in_flight")
    if (link.keep_alive_interval is None) != (link.keep_alive_at is None):
        raise InvalidValue(f"{where}.keep_alive_at must be there if keep_alive_interval is")


def _check_ids(where: str, packet_ids: Iterable[int]) -> None:
    _check_unique(where, packet_ids)
    for packet_id in packet_ids:
        if not 1 <= packet_id <= MAX_PACKET_ID:
            raise InvalidValue(f"{where}: packet_id must be 1 to 65,535, not {packet_id!r}")


def _check_unique(where: str, names: Iterable[Hashable]) -> None:
    listed = list(names)
    if len(set(listed)) == len(listed):
        return
    twice = next(name for index, name in enumerate(listed) if name in listed[:index])
    raise InvalidValue(f"{where} must not name {twice!r} twice")
