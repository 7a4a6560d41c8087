"""Who takes part in a simulation: clients that follow the standard, and others that do not.

A peer's turn ends with the next event that reaches the server from it. What is on its way stands
in a `Wire`: the two ends of a network connection do not learn at one time that it is gone.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any, Protocol

from attrs import evolve

from mqtt_sessions.actions import (
    Action,
    CloseConnection,
    SendConnack,
    SendPublish,
    SendPubrec,
    SendPubrel,
)
from mqtt_sessions.events import (
    ClientConnected,
    ConnectionLost,
    ConnectionWritable,
    DisconnectReceived,
    Event,
    MalformedPacketReceived,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    SubscribeReceived,
    UnsubscribeReceived,
)
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.policy import ExpiryPolicy, OverflowPolicy, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.testing._watched import Violation
from mqtt_sessions.testing.clients import Client

__all__ = ["FILTERS", "TOPICS", "Client", "Friend", "Hostile", "Net", "Peer", "Wire"]

TOPICS = ("a", "a/b", "a/c", "d/e", "d", "$x/y")
FILTERS = ("a", "a/+", "a/#", "#", "+/+", "d/e", "d/#", "$x/#", "+", "w/+")
_NEVER = 0xFFFFFFFF
_PATIENCE = 3
_SESSION_INTERVALS = (None, 0, 20, 60, 60, 300, 300, 3000, _NEVER)
_RECEIVE_MAXIMA = (None, None, 1, 2, 3, 8)
_KEEP_ALIVES = (0, 0, 0, 10, 40)
_DELAYS = (0, 0, 5, 60, 1000)
_MESSAGE_INTERVALS = (None, None, None, None, 0, 1, 5, 30)
_REFUSALS = (ReasonCode.QUOTA_EXCEEDED, ReasonCode.UNSPECIFIED_ERROR, ReasonCode.NOT_AUTHORIZED)
_REFUSED_FILTERS = ("a/#/b", "", "a+", "$share/g/a", "1/2/3/4/5/6/7/8/9")
_CODES = (0, 0, 0, 0x10, 0x80, 0x92, 0x97)


class Net(Protocol):
    """What a peer sees of the world."""

    chance: Random
    chaos: bool
    renewed: set[str]
    """Clients whose session ended, and that were not told so by a CONNACK that they read."""

    @property
    def calls(self) -> int:
        """Steps taken so far."""
        ...

    def number(self) -> int:
        """The next message's number: payloads are told apart by it."""
        ...

    def open(self, peer: Peer) -> Wire:
        """A new network connection."""
        ...

    def exists(self, client_id: str) -> bool:
        """Whether there is a session."""
        ...

    def feed(self, event: Event) -> None:
        """One event reaches the server."""
        ...


class Wire:
    """A network connection, with what is on its way on it.

    Attributes:
        connection: The host's name for it.
        number: They are numbered in order of opening.
        inbox: What the server did and the client has not read.
        outbox: Events that the server has not seen, `ConnectionLost` the last of all.
        up: The client's end is there.
        closed: The server closed it.
        congested: The host reported it as congested.
    """

    __slots__ = ("closed", "congested", "connection", "inbox", "number", "outbox", "peer", "up")

    def __init__(self, number: int, peer: Peer) -> None:
        self.number = number
        self.connection = f"{peer.client_id}#{number}"  # so that a transcript names who it is
        self.peer = peer
        self.inbox: deque[Action] = deque()
        self.outbox: deque[Event] = deque()
        self.up = True
        self.closed = False
        self.congested = False

    def cut(self, kept: int = 0) -> None:
        """The client's end is gone; of what it had sent, the first few still arrive."""
        self.up = False
        self.inbox.clear()
        while len(self.outbox) > kept:
            self.outbox.pop()
        self.outbox.append(ConnectionLost(self.connection))


class Peer:
    """One who connects.

    Attributes:
        wire: The present connection.
        old: Connections that the server has not been told to be gone.
        back_at: It stays away, or reads nothing, until this step.
    """

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.wire: Wire | None = None
        self.old: list[Wire] = []
        self.back_at = 0

    def turn(self, net: Net) -> bool:
        """Do something; False if nothing came of it."""
        raise NotImplementedError

    def drop(self, chance: Random | None = None) -> None:
        """The present connection breaks."""
        wire = self.wire
        if wire is not None:
            self.wire = None
            wire.cut(chance.randrange(1 + len(wire.outbox)) if chance else 0)
            self.old.append(wire)

    def _feed_old(self, net: Net) -> bool:
        """A late event of an old connection; the last is that it is lost."""
        old = self.old
        if not old:
            return False
        wire = old[0]
        event = wire.outbox.popleft()
        if not wire.outbox:
            old.pop(0)
        net.feed(event)
        return True


class Friend(Peer):
    """A client that follows the standard, on a network that does not.

    Attributes:
        seen: Number of the last QoS 2 message delivered, by publisher and topic.
        principal: As whom it authenticates.
        declined: Messages that it refused.
        refused: How many of its CONNECTs were; it does not try for ever once all faults end.
        trusted: Its messages come once, and in order.
    """

    def __init__(self, client_id: str, version: int, *, maximum_packet_id: int = 65_535) -> None:
        super().__init__(client_id)
        self.client = Client(client_id, version, maximum_packet_id=maximum_packet_id)
        self.seen: dict[tuple[str | None, str], int] = {}
        self.principal: str | None = client_id
        self.refused = 0
        self.declined: set[bytes] = set()
        self.trusted = version > 3  # MQTT 3.1 does not tell whether a session goes on

    def drop(self, chance: Random | None = None) -> None:
        client = self.client
        ends = client.clean_start or client.interval == 0
        if client.connection is not None and not client.ready and ends:
            client.must_clean = True  # nobody knows whether the CONNECT arrived
        client.connection_lost()
        super().drop(chance)

    def turn(self, net: Net) -> bool:
        """Read some, then send one packet: an answer, or something of its own."""
        chance = net.chance
        if self.old and (not net.chaos or chance.random() < 0.2):
            return self._feed_old(net)
        wire = self.wire
        if self.back_at > net.calls and net.chaos:
            return False
        if wire is None:
            if self.refused > _PATIENCE and not net.chaos:
                return False
            self.wire = net.open(self)
            net.feed(self._connect(net, self.wire))
            return True
        if wire.inbox:
            self._read(net, wire, 1 + int(chance.random() * 6))
            if self.wire is None:
                return False
        if wire.outbox:
            net.feed(wire.outbox.popleft())
            return True
        if wire.inbox or not net.chaos:
            return bool(wire.inbox)
        return self._act(net, wire)

    def _read(self, net: Net, wire: Wire, most: int) -> None:
        client, inbox, outbox = self.client, wire.inbox, wire.outbox
        while inbox and most:
            most -= 1
            action = inbox.popleft()
            code = ReasonCode.SUCCESS
            if type(action) is SendConnack:
                self.refused += action.reason_code != 0
                if not action.session_present:
                    net.renewed.discard(self.client_id)
            elif type(action) is SendPublish and net.chaos and net.chance.random() < 0.01:
                code = _REFUSALS[int(net.chance.random() * 3)]
                self.declined.add(action.delivery.message.payload)
            outbox += client.receive(action, code)
        if client.delivered:
            for delivery in client.delivered:
                # one that its publisher sent at QoS 1 may come twice, whatever it was upgraded to
                if delivery.qos == delivery.message.qos == 2 and not delivery.is_retained:
                    self._check_once(net, delivery)
            client.delivered.clear()
        client.discarded.clear()
        if client.connection is None:  # the server closed it
            self.drop(net.chance)
        elif not inbox and wire.congested:
            wire.congested = False
            outbox.append(ConnectionWritable(wire.connection))

    def _check_once(self, net: Any, delivery: Delivery) -> None:
        """Exactly once from end to end, and in order: numbers of one publisher only grow."""
        publisher, message = delivery.publisher, delivery.message
        if not message.payload or not net.is_trusted(publisher):
            return
        if message.payload in self.declined:
            return  # its refusal was lost, and now it takes the message, behind others
        number = int(message.payload)
        key = (publisher, message.topic_name)
        last = self.seen.get(key, -1)
        if number <= last - net.tolerance:
            raise Violation(
                "MQTT-4.3.3-10" if number == last else "MQTT-4.6.0-5",
                f"{self.client_id!r} is delivered {number} of {publisher!r} after {last}",
            )
        self.seen[key] = number

    # ------------------------------------------------------------ what it does on its own

    def _connect(self, net: Net, wire: Wire) -> ClientConnected:
        chance, client = net.chance, self.client
        version = client.protocol_version
        if not net.chaos:
            interval = 3600 if version == 5 else None
            return client.connect(
                wire.connection, session_expiry_interval=interval, principal=self.principal
            )
        will = None
        if chance.random() < 0.3:
            topic_name = f"w/{self.client_id}"
            message = make_message(net, topic_name, retain=chance.random() < 0.2)
            will = Will(message, chance.choice(_DELAYS) if version == 5 else 0)
        own = chance.random()
        event = client.connect(
            wire.connection,
            clean_start=chance.random() < 0.06,
            session_expiry_interval=chance.choice(_SESSION_INTERVALS) if version == 5 else None,
            receive_maximum=chance.choice(_RECEIVE_MAXIMA) if version == 5 else None,
            maximum_packet_size=50 if version == 5 and own < 0.1 else None,
            keep_alive=chance.choice(_KEEP_ALIVES),
            will=will,
            principal=self.principal,
        )
        if own > 0.9:
            limits = SessionLimits(
                maximum_queued_messages=chance.choice((0, 3, 10)),
                overflow=chance.choice(tuple(OverflowPolicy)),
                queue_qos0=chance.random() < 0.5,
                maximum_send_window=chance.choice((1, 4, 32)),
            )
            event = evolve(event, limits=limits)
        elif own > 0.86:
            policy = ExpiryPolicy(default_session_expiry_interval=50, expire_in_flight=True)
            event = evolve(event, policy=policy)
        return event

    def _act(self, net: Net, wire: Wire) -> bool:
        chance, client = net.chance, self.client
        if not client.ready:
            if chance.random() < 0.02:
                self.drop(chance)
            return False
        dice = chance.random()
        event: Event | None
        if dice < 0.72:
            event = client.publish(make_message(net, chance.choice(TOPICS)))
        elif dice < 0.80:
            event = client.subscribe(*self._subscriptions(net, 1 + int(chance.random() * 2)))
        elif dice < 0.83:
            event = client.unsubscribe(chance.choice(FILTERS))
        elif dice < 0.86:
            self.drop(chance)
            self.back_at = net.calls + int(chance.random() ** 3 * 4000)
            return False
        elif dice < 0.87:  # it comes back at once, and the server does not know yet
            self.drop(chance)
            return False
        elif dice < 0.88:
            code = ReasonCode.DISCONNECT_WITH_WILL_MESSAGE if dice < 0.873 else ReasonCode.SUCCESS
            interval = chance.choice((None, None, 0)) if client.protocol_version == 5 else None
            wire.outbox.append(client.disconnect(code, interval))
            self.wire = None
            wire.cut(len(wire.outbox))
            self.old.append(wire)
            return False
        elif dice < 0.89:  # it reads nothing for a while
            self.back_at = net.calls + int(chance.random() * 600)
            return False
        else:
            event = PingReceived(wire.connection)
        if event is None:
            event = PingReceived(wire.connection)
        net.feed(event)
        return True

    def _subscriptions(self, net: Net, count: int) -> list[Subscription]:
        wanted = [make_subscription(net) for _ in range(count)]
        if self.client.protocol_version == 5:
            return wanted
        return [Subscription(each.topic_filter, each.qos) for each in wanted]


class Hostile(Peer):
    """A client that follows nothing: garbage, repeats, floods, second CONNECTs."""

    def turn(self, net: Net) -> bool:
        """One event, which may be any."""
        chance = net.chance
        if self.old and chance.random() < 0.3:
            return self._feed_old(net)
        wire = self.wire
        if wire is None:
            self.wire = wire = net.open(self)
            net.feed(self._connect(net, wire))
            return True
        if wire.outbox:
            net.feed(wire.outbox.popleft())
            return True
        while wire.inbox and chance.random() < 0.8:
            action: Any = wire.inbox.popleft()
            if type(action) is CloseConnection:
                self.drop()
                return False
            if type(action) in _ANSWERS and chance.random() < 0.8:
                wire.outbox.append(self._answer(chance, wire, action))
        if len(wire.inbox) > 200:
            wire.inbox.clear()
        if chance.random() < 0.02:
            self.drop(chance)
            return False
        net.feed(self._garbage(net, wire))
        return True

    def _answer(self, chance: Random, wire: Wire, action: Any) -> Event:
        """The right packet mostly; else one of another kind, identifier or code."""
        kinds: tuple[Any, ...] = (PubackReceived, PubrecReceived, PubcompReceived, PubrelReceived)
        kind: Any
        if type(action) is SendPublish:
            kind = (PingReceived, PubackReceived, PubrecReceived)[action.delivery.qos]
            if kind is PingReceived:
                return PingReceived(wire.connection)
        else:
            kind = PubcompReceived if type(action) is SendPubrel else PubrelReceived
        if chance.random() < 0.05:
            kind = chance.choice(kinds)
        packet_id = action.packet_id if chance.random() < 0.9 else 1 + chance.randrange(40)
        code = ReasonCode.SUCCESS if chance.random() < 0.9 else ReasonCode(chance.choice(_CODES))
        event: Event = kind(wire.connection, packet_id, code)
        return event

    def _connect(self, net: Net, wire: Wire) -> ClientConnected:
        chance = net.chance
        version = chance.choice((3, 4, 5, 5))
        number = chance.choice((0, 0, 0, 1, 2))
        client_id = chance.choice((self.client_id, self.client_id, f"h{number}", "x" * 24, ""))
        if chance.random() < 0.02 and net.exists("f0"):
            client_id = "f0"  # somebody else's, and bound to them
        will = None
        if chance.random() < 0.3:
            topic_name = chance.choice(("w/h", "w/#", ""))
            delay = chance.choice(_DELAYS) if version == 5 else 0
            will = Will(make_message(net, topic_name), delay)
        return ClientConnected(
            wire.connection,
            client_id,
            version,
            chance.random() < 0.3,
            chance.choice(_SESSION_INTERVALS) if version == 5 else None,
            chance.choice((None, 0, 1, 3, 65_535)) if version == 5 else None,
            chance.choice((None, None, 0, 7, 30)) if version == 5 else None,
            chance.choice(_KEEP_ALIVES),
            will,
            assigned_client_id=f"auto{net.number()}" if not client_id else None,
            principal="somebody" if client_id == "f0" else None,
        )

    def _garbage(self, net: Net, wire: Wire) -> Event:
        chance, connection = net.chance, wire.connection
        dice = chance.random()
        packet_id = 1 + chance.randrange(12)
        if dice < 0.45:
            message = make_message(net, chance.choice(TOPICS))
            if dice < 0.02:
                message = evolve(message, topic_name=chance.choice(("", "a/#", "\0", "+")))
            elif dice < 0.025:
                message = evolve(message, qos=3)
            refusal = chance.choice(_REFUSALS) if dice > 0.43 else None
            ids = (7,) if 0.03 < dice < 0.035 else ()
            dup = chance.random() < 0.3
            if dice > 0.40:
                packet_id = chance.randrange(200)
            return PublishReceived(connection, message, packet_id, dup, refusal, ids)
        if dice < 0.60:
            return PubrelReceived(connection, packet_id)
        if dice < 0.70:
            kinds: tuple[Any, ...] = (PubackReceived, PubrecReceived, PubcompReceived)
            event: Event = chance.choice(kinds)(connection, packet_id)
            return event
        if dice < 0.80:
            flood = 1 if chance.random() < 0.9 else 30
            flood = min(flood, chance.randrange(40))
            subscriptions = tuple(make_subscription(net, odd=True) for _ in range(flood))
            return SubscribeReceived(connection, packet_id, subscriptions)
        if dice < 0.84:
            return UnsubscribeReceived(connection, packet_id, (chance.choice(FILTERS), "nothing"))
        if dice < 0.85 and not wire.closed:
            return self._connect(net, wire)
        if dice < 0.86:
            return MalformedPacketReceived(connection)
        if dice < 0.88:
            code = chance.choice((0, 4, 0x80, 0x8E, 0x31))
            return DisconnectReceived(connection, code, chance.choice((None, 0, 5, _NEVER)))
        return PingReceived(connection, chance.random() < 0.9)


_ANSWERS = frozenset({SendPublish, SendPubrec, SendPubrel})


def make_message(net: Net, topic_name: str, *, retain: bool | None = None) -> Message:
    """A message of its own number; now and then an empty one."""
    chance = net.chance
    dice = chance.random()
    if retain is None:
        retain = dice < 0.15
    number = net.number()
    payload = b"%d" % number
    if dice < 0.02:
        payload = b""
    elif dice > 0.9:
        payload = payload.rjust(40, b"0")
    return Message(
        topic_name,
        payload,
        int(chance.random() * 3),
        retain,
        _MESSAGE_INTERVALS[int(chance.random() * 8)],
    )


def make_subscription(net: Net, *, odd: bool = False) -> Subscription:
    """A subscription with any options; where it may be odd, its filter is refused now and then."""
    chance = net.chance
    topic_filter = chance.choice(FILTERS)
    if odd and chance.random() < 0.1:
        topic_filter = chance.choice(_REFUSED_FILTERS)
    return Subscription(
        topic_filter,
        int(chance.random() * 3),
        chance.random() < 0.1,
        chance.random() < 0.3,
        int(chance.random() * 3),
        chance.choice((None, None, 1, 2)),
    )
