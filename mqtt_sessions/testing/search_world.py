"""What there is in a small world, and what may happen in it: data, and nothing that acts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mqtt_sessions import lifecycle, outbound, packet_ids, recovering, router, rows
from mqtt_sessions._values import value
from mqtt_sessions.messages import Message, Will
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription

__all__ = ["Entry", "Leaving", "Peer", "SmallWorld", "bounded_packet_ids"]


@value
class Entry:
    """One way in which a client connects.

    Attributes:
        clean_start: Clean Start, Clean Session.
        session_expiry_interval: 5.0 only.
        receive_maximum: 5.0 only.
        will: If there is one.
        protocol_version: None: the client's own.
    """

    clean_start: bool = False
    session_expiry_interval: int | None = None
    receive_maximum: int | None = None
    will: Will | None = None
    protocol_version: int | None = None


@value
class Leaving:
    """One way in which a client disconnects."""

    reason_code: ReasonCode = ReasonCode.SUCCESS
    session_expiry_interval: int | None = None


@value
class Peer:
    """A client of a small world.

    Attributes:
        client_id: Its name.
        protocol_version: 3, 4 or 5.
        entries: Ways to connect; with the first one it comes in the beginning and comes back when
            everything is to be brought to rest.
        leavings: Ways to disconnect.
        subscriptions: Which its session gets from the host when it begins.
        messages: What it publishes, in this order, whenever it may.
        cut: Its connection may be lost, with all that is on the way, at any moment.
        abandons: Its connection may be lost on its own side first, so that it comes back while the
            store still has the old one open.
        congests: Its connection may become congested, and writable again, at any moment.
        retries: It may send a PUBLISH again on the same connection, as MQTT 3.1 allows.
        prompt: Its packets are carried at once, and it is never cut: it adds no states.
    """

    client_id: str
    protocol_version: int = 5
    entries: tuple[Entry, ...] = (Entry(session_expiry_interval=0xFFFFFFFF),)
    leavings: tuple[Leaving, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()
    messages: tuple[Message, ...] = ()
    cut: bool = True
    abandons: bool = False
    congests: bool = False
    retries: bool = False
    prompt: bool = False


@value
class SmallWorld:
    """What there is, and what may happen. How often it happens is not bounded.

    Attributes:
        name: For tables and traces.
        peers: The clients.
        messages: What the host publishes, in this order, at any moments.
        clock: Time may jump to the next deadline.
        late: The host's timer may be late: time jumps, and events come in before
            `handle_timeout` is called.
        tick: Seconds by which time may go on otherwise; None: it does not.
        packet_ids: How many identifiers there are, on both sides.
        horizon: Seconds beyond which all instants are alike.
        crashes: The store is durable, and the server may crash between any two steps.
        pipelined: What is changed is committed in batches, at any moments; without it, each step's
            before its actions are performed.
        policy: Of the store.
        limits: Of the store.
        options: Of the store.
    """

    name: str
    peers: tuple[Peer, ...]
    messages: tuple[Message, ...] = ()
    clock: bool = False
    late: bool = False
    tick: float | None = None
    packet_ids: int = 3
    horizon: float = 100.0
    crashes: bool = False
    pipelined: bool = False
    policy: ExpiryPolicy = ExpiryPolicy()
    limits: SessionLimits = SessionLimits()
    options: ServerOptions = ServerOptions()


@contextmanager
def bounded_packet_ids(most: int) -> Iterator[None]:
    """The core knows identifiers 1 to `most` only, so that a few messages make them come again.

    A durable store reserves them two at a time. Not for threads: the bound is one for all stores.
    """
    before, block = packet_ids.MAX_PACKET_ID, rows._BLOCK
    try:
        for module in _WITH_BOUND:
            setattr(module, "MAX_PACKET_ID", most)  # noqa: B010
        rows._BLOCK = PACKET_IDS_RESERVED
        yield
    finally:
        for module in _WITH_BOUND:
            setattr(module, "MAX_PACKET_ID", before)  # noqa: B010
        rows._BLOCK = block


PACKET_IDS_RESERVED = 2
_WITH_BOUND = (packet_ids, outbound, router, lifecycle, rows, recovering)


class Step(NamedTuple):
    """What happens next: a kind, whose, and which variant of it."""

    kind: str
    who: str = ""
    variant: int = 0
