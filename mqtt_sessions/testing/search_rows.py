"""The rows of a small world's journal, and what has to hold of them behind each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from attrs import evolve

from mqtt_sessions import packet_ids, rows
from mqtt_sessions.changes import (
    Change,
    DeliveryStored,
    ExchangeRemoved,
    ExchangeStored,
    InboundIdRemoved,
    InboundIdStored,
    MessageStored,
    ReplayRemoved,
    ReplayStored,
    Row,
    SessionRemoved,
    SessionStored,
    Stored,
    SubscriptionRemoved,
    SubscriptionStored,
    row_of,
)
from mqtt_sessions.snapshots import StoreSnapshot
from mqtt_sessions.store import SessionStore
from mqtt_sessions.testing.durable import durable_view

__all__ = ["RowsOf", "after_changes", "check_recovery", "check_rows", "ended", "is_reserved"]

RowsOf = Mapping[Row, Stored]
"""The rows of a journal, each under its key."""

_STORED = get_args(Stored)
_OF_SESSION = (
    SubscriptionStored,
    SubscriptionRemoved,
    InboundIdStored,
    InboundIdRemoved,
    ReplayStored,
    ReplayRemoved,
    ExchangeStored,
    ExchangeRemoved,
)


def after_changes(
    before: RowsOf, changes: Iterable[Change], *, is_batch: bool = False
) -> dict[Row, Stored]:
    """The rows once these changes are made, one after the other.

    Args:
        before: The rows.
        changes: Of a step; or of a batch, where what was stored and removed may be left out.
        is_batch: They are a batch's.

    Raises:
        AssertionError: A step removes a row that is not there.
    """
    after = dict(before)
    for change in changes:
        row = row_of(change)
        if isinstance(change, _STORED):
            after[row] = change
            continue
        assert is_batch or row in after, f"{change} removes what is not there"
        after.pop(row, None)
        if isinstance(change, SessionRemoved):
            for each, stored in list(after.items()):
                if isinstance(stored, _OF_SESSION) and stored.session_id == change.session_id:
                    del after[each]
    return after


def check_rows(found: RowsOf, orphans: Iterable[int] = ()) -> None:
    """Each row that another names is there, and each message is named by some row.

    Args:
        found: The rows of a journal.
        orphans: Messages that no row names, and that the store is about to remove.

    Raises:
        AssertionError: One is missing, or was left behind.
    """
    named: set[int] = set(orphans)
    for stored in found.values():
        if isinstance(stored, DeliveryStored):
            assert ("session", stored.session_id) in found, f"{stored} of no session"
            if stored.message_id is not None:
                assert ("message", stored.message_id) in found, f"{stored} without its message"
                named.add(stored.message_id)
        elif isinstance(stored, ExchangeStored):
            in_place = stored.delivery_id is None or ("delivery", stored.delivery_id) in found
            assert in_place, f"{stored} without its delivery"
    for stored in found.values():
        if isinstance(stored, MessageStored):
            assert stored.message_id in named, f"{stored} is left behind"


def check_recovery(before: StoreSnapshot, found: RowsOf) -> None:
    """What the rows come to is what the store held, as a crash would leave it.

    It is found a second later, so that an instant that is only right at once does not pass.

    Raises:
        AssertionError: It is something else.
    """
    now = before.now + 1
    made = SessionStore.recover(found.values(), now, before.policy, before.limits, before.options)
    assert not made.set_aside, f"rows are set aside: {made.set_aside}"
    made.store.check()
    after = made.store.snapshot()
    was, found_again = _view(before, now), _view(after, now)
    for old, new in zip(was.sessions, found_again.sessions, strict=False):
        assert new == old, f"a crash makes {new} of {old}"
    assert found_again == was, f"a crash makes {found_again} of {was}"
    _check_packet_ids(before, after)


def ended(before: RowsOf, after: RowsOf) -> frozenset[int]:
    """Sessions of the rows before that are not among those after."""
    return frozenset(
        each.session_id
        for row, each in before.items()
        if isinstance(each, SessionStored) and row not in after
    )


def is_reserved(found: RowsOf, client_id: str, packet_id: int) -> bool:
    """Whether a session that comes back from these rows starts behind the identifier."""
    until = [
        each.packet_ids_until
        for each in found.values()
        if isinstance(each, SessionStored) and each.client_id == client_id
    ]
    most = packet_ids.MAX_PACKET_ID
    return all((each - packet_id) % most <= rows._BLOCK for each in until)


def _view(snapshot: StoreSnapshot, now: float) -> StoreSnapshot:
    seen = durable_view(snapshot, now)
    return evolve(seen, retained=tuple(sorted(seen.retained, key=lambda each: each.received_at)))


def _check_packet_ids(before: StoreSnapshot, after: StoreSnapshot) -> None:
    """A session goes on behind the last identifier that it may have used."""
    used = {each.client_id: each.last_packet_id for each in before.sessions}
    for each in after.sessions:
        if each.expiry_interval == 0:
            continue
        ahead = (each.last_packet_id - used[each.client_id]) % packet_ids.MAX_PACKET_ID
        assert ahead <= rows._BLOCK, f"{each.client_id!r} gives identifiers again after a crash"
