"""The small worlds once more, with a server that crashes; and some that commit in batches."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from mqtt_sessions.messages import Message, Will
from mqtt_sessions.policy import ExpiryPolicy
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.testing.search_world import Entry, Leaving, Peer, SmallWorld
from mqtt_sessions.testing.small_worlds import SMALL_WORLDS

__all__ = ["CRASH_WORLDS", "LARGE_CRASH_WORLDS"]

_LARGE = (
    "three of QoS 2 out",
    "three of QoS 2 in",
    "QoS 0, 1 and 2 out",
    "from a to b",
    "two retained topics",
)
_NEVER = 0xFFFFFFFF
_KEPT = Entry(session_expiry_interval=_NEVER, receive_maximum=1)
_LISTENING = (Subscription("t", 2),)
_OBSERVER = Peer(
    "z", subscriptions=(Subscription("t", 2), Subscription("w", 0)), prompt=True, cut=False
)
_LISTENER = Peer("b", entries=(_KEPT,), subscriptions=_LISTENING)


def _m(payload: str, qos: int, topic_name: str = "t") -> Message:
    return Message(topic_name, payload.encode(), qos)


def _batches(name: str, *peers: Peer, **more: Any) -> SmallWorld:
    return SmallWorld(f"{name}, batches", peers, crashes=True, pipelined=True, **more)


def _crashes(world: SmallWorld) -> SmallWorld:
    # more identifiers than are reserved at a time
    packet_ids = 5 if world.packet_ids == 3 else world.packet_ids
    return evolve(world, name=f"{world.name}, crashes", crashes=True, packet_ids=packet_ids)


CRASH_WORLDS: tuple[SmallWorld, ...] = (
    *[_crashes(world) for world in SMALL_WORLDS if world.name not in _LARGE],
    _batches("QoS 1 in", Peer("a", messages=(_m("1", 1),)), _OBSERVER),
    _batches("QoS 2 in", Peer("a", messages=(_m("1", 2),)), _OBSERVER),
    _batches("one identifier in", Peer("a", messages=(_m("1", 2), _m("2", 2))), packet_ids=1),
    _batches(
        "sent again in 3.1",
        Peer("a", 3, entries=(Entry(),), messages=(_m("1", 2),), retries=True),
        policy=ExpiryPolicy(default_session_expiry_interval=None),
    ),
    _batches("QoS 1 out", _LISTENER, messages=(_m("1", 1), _m("2", 1))),
    _batches(
        "identifiers are reserved",
        Peer("b", entries=(_KEPT,), subscriptions=_LISTENING, prompt=True, cut=False),
        messages=(_m("1", 1), _m("2", 1), _m("3", 1), _m("4", 1)),
        packet_ids=5,
    ),
    _batches("QoS 2 out", _LISTENER, messages=(_m("1", 2),)),
    _batches("a client hears itself", evolve(_LISTENER, messages=(_m("1", 2),))),
    _batches(
        "Clean Start",
        evolve(_LISTENER, entries=(_KEPT, Entry(True, _NEVER, 1)), subscriptions=()),
    ),
    _batches(
        "a message to a session that ends",
        Peer("a", entries=(Entry(True),), messages=(_m("1", 1),), prompt=True, cut=False),
        Peer("b", entries=(Entry(True, _NEVER),), subscriptions=(Subscription("t", 1),)),
    ),
    _batches(
        "leaving",
        Peer(
            "b",
            entries=(_KEPT, Entry(True)),
            leavings=(Leaving(), Leaving(session_expiry_interval=0)),
        ),
    ),
    _batches(
        "wills",
        Peer(
            "b",
            entries=(Entry(False, 5, None, Will(_m("will", 1, "w"))), Entry(False, 5)),
            leavings=(Leaving(),),
        ),
        _OBSERVER,
    ),
)

LARGE_CRASH_WORLDS: tuple[SmallWorld, ...] = (
    *[_crashes(world) for world in SMALL_WORLDS if world.name in _LARGE],
    _batches(
        "the same numbers both ways",
        evolve(_LISTENER, messages=(_m("up", 2, "u"),)),
        messages=(_m("down", 2),),
    ),
    _batches(
        "Clean Start and a message",
        evolve(_LISTENER, entries=(_KEPT, Entry(True, _NEVER, 1), Entry(True))),
        messages=(_m("1", 1),),
    ),
)
