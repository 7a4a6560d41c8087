"""The small worlds that are searched: each is about one thing that can go wrong."""

from __future__ import annotations

from mqtt_sessions.messages import Message, Will
from mqtt_sessions.policy import ExpiryPolicy, OverflowPolicy, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.testing.search_world import Entry, Leaving, Peer, SmallWorld

__all__ = ["LARGE_WORLDS", "SMALL_WORLDS"]

_NEVER = 0xFFFFFFFF
_LISTENING = (Subscription("t", 2),)
_WITH_WILL = ReasonCode.DISCONNECT_WITH_WILL_MESSAGE


def _m(payload: str, qos: int, **fields: int | bool) -> Message:
    return Message("t", payload.encode(), qos, **fields)  # type: ignore[arg-type]


def _kept(receive_maximum: int | None = None, *, clean_start: bool = False) -> Entry:
    return Entry(clean_start, _NEVER, receive_maximum)


def _will(qos: int, delay: int) -> Will:
    return Will(Message("w", b"will", qos), delay)


_OBSERVER = Peer(
    "z", subscriptions=(Subscription("t", 2), Subscription("w", 2)), prompt=True, cut=False
)


def _subscriber(*entries: Entry, abandons: bool = True) -> Peer:
    return Peer("b", entries=entries or (_kept(),), subscriptions=_LISTENING, abandons=abandons)


_TWO_OF_EACH = (_m("1", 1), _m("2", 2))

_OUTBOUND = (
    SmallWorld(
        "QoS 1 out",
        (_subscriber(_kept(2), _kept(1)),),
        (_m("1", 1), _m("2", 1), _m("3", 1)),
    ),
    SmallWorld(
        "three of QoS 2 out",
        (_subscriber(_kept(2), _kept(1)),),
        (_m("1", 2), _m("2", 2), _m("3", 2)),
    ),
    SmallWorld("QoS 2 out", (_subscriber(_kept(2), _kept(1)),), (_m("1", 2), _m("2", 2))),
    SmallWorld(
        "QoS 0, 1 and 2 out",
        (_subscriber(_kept(2), _kept(1), _kept()),),
        (_m("0", 0), _m("1", 1), _m("2", 2), _m("3", 0)),
    ),
    SmallWorld(
        "a smaller window",
        (_subscriber(_kept(3), _kept(1), abandons=False),),
        (_m("1", 2), _m("2", 1), _m("3", 2)),
    ),
    SmallWorld(
        "identifiers come again",
        (_subscriber(_kept(2), abandons=False),),
        (_m("1", 2), _m("2", 1), _m("3", 1), _m("4", 1)),
        packet_ids=2,
    ),
    SmallWorld(
        "Clean Start",
        (_subscriber(_kept(1), _kept(1, clean_start=True)),),
        _TWO_OF_EACH,
    ),
)

_HELD_BACK = (
    SmallWorld(
        "a congested connection",
        (
            Peer(
                "b",
                entries=(_kept(1),),
                subscriptions=_LISTENING,
                congests=True,
            ),
        ),
        (_m("1", 2), _m("2", 1), _m("3", 0)),
    ),
    SmallWorld(
        "a queue of one",
        (_subscriber(_kept(1), abandons=False),),
        (_m("0", 0), _m("1", 1), _m("2", 2), _m("3", 1)),
        limits=SessionLimits(maximum_queued_messages=1),
    ),
    SmallWorld(
        "a queue of one, drop newest",
        (_subscriber(_kept(1), abandons=False),),
        (_m("1", 1), _m("2", 0), _m("3", 2), _m("4", 1)),
        limits=SessionLimits(maximum_queued_messages=1, overflow=OverflowPolicy.DROP_NEWEST),
    ),
    SmallWorld(
        "a queue of two, drop oldest",
        (_subscriber(_kept(1), abandons=False),),
        (
            _m("1", 1),
            _m("2", 0, message_expiry_interval=3),
            _m("3", 2, message_expiry_interval=2),
            _m("4", 1),
        ),
        clock=True,
        late=True,
        tick=1.0,
        horizon=5.0,
        limits=SessionLimits(maximum_queued_messages=2, overflow=OverflowPolicy.DROP_OLDEST),
    ),
    SmallWorld(
        "two subscribers",
        (
            Peer("b", entries=(_kept(1),), subscriptions=_LISTENING),
            Peer("c", 4, entries=(Entry(),), subscriptions=(Subscription("t", 1),)),
        ),
        _TWO_OF_EACH,
        policy=ExpiryPolicy(default_session_expiry_interval=None),
    ),
)

_INBOUND = (
    SmallWorld(
        "QoS 1 in",
        (Peer("a", messages=(_m("1", 1), _m("2", 1), _m("3", 1)), abandons=True), _OBSERVER),
    ),
    SmallWorld(
        "QoS 2 in", (Peer("a", messages=(_m("1", 2), _m("2", 2)), abandons=True), _OBSERVER)
    ),
    SmallWorld(
        "three of QoS 2 in",
        (Peer("a", messages=(_m("1", 2), _m("2", 2), _m("3", 2)), abandons=True), _OBSERVER),
    ),
    SmallWorld(
        "QoS 2 in and Clean Start",
        (
            Peer(
                "a",
                entries=(_kept(), _kept(clean_start=True)),
                messages=(_m("1", 2), _m("2", 1)),
                abandons=True,
            ),
            _OBSERVER,
        ),
    ),
    SmallWorld(
        "the same numbers both ways",
        (
            Peer(
                "b",
                entries=(_kept(1),),
                subscriptions=_LISTENING,
                messages=(Message("u", b"up", 2),),
            ),
        ),
        (_m("down", 2),),
    ),
    SmallWorld(
        "from a to b",
        (
            Peer("a", messages=(_m("1", 2), _m("2", 2))),
            Peer("b", entries=(_kept(2),), subscriptions=_LISTENING),
        ),
    ),
    SmallWorld(
        "a client hears itself",
        (Peer("b", entries=(_kept(2),), subscriptions=_LISTENING, messages=(_m("1", 2),)),),
    ),
)

_LIFETIME = (
    SmallWorld(
        "take-over of every kind",
        (
            _subscriber(
                Entry(False, 2),
                Entry(),
                Entry(True),
                Entry(True, 2),
            ),
        ),
        (_m("1", 2),),
        clock=True,
        late=True,
        tick=1.0,
        horizon=10.0,
    ),
    SmallWorld(
        "take-over of every kind, two messages",
        (_subscriber(Entry(False, 2), Entry(), Entry(True), Entry(True, 2)),),
        _TWO_OF_EACH,
        clock=True,
        late=True,
        tick=1.0,
        horizon=10.0,
    ),
    SmallWorld(
        "take-over in 3.1.1",
        (
            Peer(
                "b",
                4,
                entries=(Entry(), Entry(True)),
                leavings=(Leaving(),),
                subscriptions=_LISTENING,
                abandons=True,
            ),
        ),
        _TWO_OF_EACH,
        clock=True,
        late=True,
        policy=ExpiryPolicy(default_session_expiry_interval=2),
        horizon=10.0,
    ),
    SmallWorld(
        "both ways in 3.1",
        (
            Peer(
                "b",
                3,
                entries=(Entry(), Entry(True)),
                subscriptions=_LISTENING,
                messages=(Message("u", b"up", 2),),
            ),
        ),
        (_m("1", 1),),
        policy=ExpiryPolicy(default_session_expiry_interval=None),
    ),
    SmallWorld(
        "one version after another",
        (
            Peer(
                "b",
                entries=(Entry(False, _NEVER), Entry(protocol_version=4)),
                subscriptions=_LISTENING,
                abandons=True,
            ),
        ),
        _TWO_OF_EACH,
        policy=ExpiryPolicy(default_session_expiry_interval=None),
    ),
    SmallWorld(
        "leaving",
        (
            Peer(
                "b",
                entries=(Entry(False, 3), Entry(True, 3)),
                leavings=(
                    Leaving(),
                    Leaving(session_expiry_interval=0),
                    Leaving(session_expiry_interval=1),
                ),
                subscriptions=_LISTENING,
            ),
        ),
        (_m("1", 2),),
        clock=True,
        late=True,
        horizon=10.0,
    ),
)

_WILLS = (
    SmallWorld(
        "wills, delays and resumes",
        (
            Peer(
                "b",
                entries=(
                    Entry(False, 5, None, _will(1, 3)),
                    Entry(False, 2, None, _will(1, 3)),
                    Entry(False, 5, None, _will(1, 0)),
                    Entry(True, 0, None, _will(2, 3)),
                    Entry(False, 5),
                ),
                leavings=(Leaving(), Leaving(_WITH_WILL), Leaving(_WITH_WILL, 0)),
                abandons=True,
            ),
            _OBSERVER,
        ),
        clock=True,
        late=True,
        tick=1.0,
        horizon=10.0,
    ),
    SmallWorld(
        "wills in 3.1.1",
        (
            Peer(
                "b",
                4,
                entries=(
                    Entry(False, None, None, _will(2, 0)),
                    Entry(True, None, None, _will(1, 0)),
                    Entry(),
                ),
                leavings=(Leaving(),),
                abandons=True,
            ),
            _OBSERVER,
        ),
        clock=True,
        late=True,
        policy=ExpiryPolicy(default_session_expiry_interval=2),
        horizon=10.0,
    ),
    SmallWorld(
        "two wills that wait",
        (
            Peer("b", entries=(Entry(False, 9, None, _will(1, 4)),)),
            Peer("c", entries=(Entry(False, 3, None, _will(0, 2)),)),
            _OBSERVER,
        ),
        clock=True,
        late=True,
        tick=1.0,
        horizon=10.0,
    ),
)

_OWN_WILL = (
    SmallWorld(
        "a client hears its own will",
        (
            Peer(
                "b",
                entries=(Entry(False, 2, None, _will(1, 2)), Entry(True, 3, None, _will(2, 0))),
                leavings=(Leaving(_WITH_WILL),),
                subscriptions=(Subscription("w", 2),),
            ),
        ),
        clock=True,
        late=True,
        horizon=5.0,
    ),
)

_MESSAGES = (
    SmallWorld(
        "messages that expire",
        (_subscriber(_kept(1), abandons=False),),
        (_m("1", 1, message_expiry_interval=3), _m("2", 2, message_expiry_interval=2)),
        clock=True,
        late=True,
        tick=1.0,
        horizon=5.0,
    ),
    SmallWorld(
        "expiry in the middle of the queue",
        (_subscriber(_kept(1), abandons=False),),
        (_m("1", 1), _m("2", 1, message_expiry_interval=2), _m("3", 1)),
        clock=True,
        late=True,
        horizon=5.0,
    ),
    SmallWorld(
        "retained messages",
        (_subscriber(_kept(1), _kept(1, clean_start=True), abandons=False),),
        (_m("1", 1, retain=True), _m("2", 2, retain=True), _m("", 0, retain=True)),
    ),
    SmallWorld(
        "two retained topics",
        (
            Peer(
                "b",
                entries=(_kept(1, clean_start=True), _kept(2)),
                subscriptions=(Subscription("#", 2),),
                congests=True,
            ),
        ),
        (
            Message("t/1", b"1", 1, True),
            Message("t/2", b"2", 2, True),
            Message("t/1", b"3", 0, True),
        ),
    ),
    SmallWorld(
        "retained messages that expire",
        (_subscriber(_kept(1, clean_start=True), abandons=False),),
        (_m("1", 1, retain=True, message_expiry_interval=3),),
        clock=True,
        late=True,
        tick=1.0,
        horizon=5.0,
    ),
)

SMALL_WORLDS: tuple[SmallWorld, ...] = (
    _OUTBOUND + _HELD_BACK + _INBOUND + _LIFETIME + _WILLS + _OWN_WILL + _MESSAGES
)

LARGE_WORLDS: tuple[SmallWorld, ...] = (
    SmallWorld(
        "from a to b, take-over on both sides",
        (
            Peer("a", messages=(_m("1", 2),), abandons=True),
            Peer("b", entries=(_kept(2), _kept(1)), subscriptions=_LISTENING, abandons=True),
        ),
    ),
    SmallWorld(
        "four of each QoS out",
        (_subscriber(_kept(3), _kept(1)),),
        (_m("1", 2), _m("2", 1), _m("3", 2), _m("4", 1)),
    ),
)
