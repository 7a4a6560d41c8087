"""Snapshots that mean the same are equal in canonical form, and others are not."""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from mqtt_sessions import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    Event,
    ExpiryPolicy,
    Message,
    MessagePublished,
    PubackReceived,
    PublishReceived,
    PubrecReceived,
    SessionLimits,
    SessionStore,
    Subscription,
    SubscriptionsAdded,
    Will,
)
from mqtt_sessions.testing.canonical import Names, canonical

T1 = Message("t", b"1", 1)
T2 = Message("t", b"2", 2)
EXPIRING = Message("t", b"3", 1, message_expiry_interval=10)


def connect(connection: str = "c", client_id: str = "b", window: int = 2) -> ClientConnected:
    return ClientConnected(connection, client_id, 5, False, 60, window)


SUBSCRIBE = SubscriptionsAdded("b", (Subscription("t", 2),))


def seen(*events: Event | float, at: float = 0.0, later: float = 0.0) -> Hashable:
    """What a store holds after some events; a number sets the clock."""
    store, now = SessionStore(), at
    for event in events:
        if isinstance(event, float):
            now = at + event
            store.handle_timeout(now)
        else:
            store.handle(event, now)
    return canonical(store.snapshot(), now + later, horizon=30.0)


HELD = (connect(), SUBSCRIBE, MessagePublished(T1))


def test_the_clock_itself_does_not_matter() -> None:
    events = (*HELD, ConnectionLost("c"), MessagePublished(EXPIRING))
    assert seen(*events) == seen(*events, at=1_000.0)


def test_identifiers_counters_and_cursors_do_not_matter() -> None:
    further = (*HELD, PubackReceived("c", 1), MessagePublished(T1))
    assert seen(*HELD) == seen(*further)


def test_names_of_connections_do_not_matter() -> None:
    assert seen(*HELD) == seen(connect("another"), SUBSCRIBE, MessagePublished(T1))


def test_the_order_of_making_sessions_does_not_matter() -> None:
    one, other = connect("c1", "b"), connect("c2", "a")
    assert seen(one, other) == seen(other, one)


def test_how_long_a_message_waits_does_not_matter_unless_it_expires() -> None:
    away = (connect(), SUBSCRIBE, ConnectionLost("c"))
    assert seen(*away, MessagePublished(T1), 5.0) == seen(*away, 5.0, MessagePublished(T1))
    early, late = (*away, MessagePublished(EXPIRING), 5.0), (*away, 5.0, MessagePublished(EXPIRING))
    assert seen(*early) != seen(*late)


def test_beyond_the_horizon_all_instants_are_alike() -> None:
    events = (*HELD, ConnectionLost("c"))
    assert seen(*events) == seen(*events, later=25.0)  # 60 and 35 seconds are both beyond 30
    assert seen(*events) != seen(*events, later=31.0)


RETAINED = (MessagePublished(Message("t", b"1", 1, True)),)
WILL = ClientConnected("c", "b", 5, False, 60, will=Will(T1, 20))

DIFFERENT: dict[str, tuple[tuple[Event | float, ...], tuple[Event | float, ...]]] = {
    "a session": ((), (connect(),)),
    "an open connection": ((connect(),), (connect(), ConnectionLost("c"))),
    "the window": ((connect(),), (connect(window=1),)),
    "a subscription": ((connect(),), (connect(), SUBSCRIBE)),
    "what is in flight": ((connect(), SUBSCRIBE), HELD),
    "which message": (HELD, (connect(), SUBSCRIBE, MessagePublished(T2))),
    "the phase": (
        (connect(), SUBSCRIBE, MessagePublished(T2)),
        (connect(), SUBSCRIBE, MessagePublished(T2), PubrecReceived("c", 1)),
    ),
    "what holds a unit": (
        (connect(), SUBSCRIBE, MessagePublished(T2), PubrecReceived("c", 1)),
        (
            connect(),
            SUBSCRIBE,
            MessagePublished(T2),
            PubrecReceived("c", 1),
            ConnectionLost("c"),
            connect(),
        ),
    ),
    "the order in flight": (
        (*HELD, MessagePublished(T2)),
        (connect(), SUBSCRIBE, MessagePublished(T2), MessagePublished(T1)),
    ),
    "an incoming identifier": ((connect(),), (connect(), PublishReceived("c", T2, 7))),
    "congestion": ((connect(),), (connect(), ConnectionCongested("c"))),
    "a retained message": ((), RETAINED),
    "a will": ((ClientConnected("c", "b", 5, False, 60),), (WILL,)),
    "a will's delay": ((WILL, ConnectionLost("c")), (WILL, ConnectionLost("c"), 10.0)),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_matters_makes_a_difference(what: str) -> None:
    one, other = DIFFERENT[what]
    assert seen(*one) != seen(*other)


def test_what_a_session_brought_makes_a_difference() -> None:
    def brought(**own: ExpiryPolicy | SessionLimits) -> Hashable:
        return seen(ClientConnected("c", "b", 5, False, 60, **own))  # type: ignore[arg-type]

    assert brought() != brought(limits=SessionLimits(maximum_send_window=2))
    assert brought() != brought(policy=ExpiryPolicy(expire_in_flight=True))


def test_names_are_shared_with_what_lies_around_the_store() -> None:
    store = SessionStore()
    for event in (*HELD, PubackReceived("c", 1), MessagePublished(T1)):
        store.handle(event, 0.0)
    names = Names()
    canonical(store.snapshot(), 0.0, names=names)
    assert names.connection("c") == 0
    assert names.sent("b") == {2: 1}
    assert names.received("b") == {}
    copy = names.copy()
    copy.sent("b")[9] = 2
    assert copy.connection("d") == 1
    assert names.sent("b") == {2: 1}
    assert names.connection("e") == 1


def test_messages_may_be_stood_for_by_numbers() -> None:
    store = SessionStore()
    for event in HELD:
        store.handle(event, 0.0)
    numbers = {T1: 17}
    form = canonical(store.snapshot(), 0.0, message=numbers.__getitem__)
    assert "17" in repr(form)
    assert "Message" not in repr(form)
