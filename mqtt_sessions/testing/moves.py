"""What can happen next: moves of clients and of the host, chosen by a few small numbers.

A move is a kind of thing that happens, whose it is, and two numbers that choose among its
variants. What cannot happen now becomes what can (nobody is connected: somebody connects), so that
no move is wasted, and small numbers are the plain cases, so that a failing run shrinks to a plain
one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve

from mqtt_sessions.actions import (
    CloseConnection,
    SendConnack,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
)
from mqtt_sessions.events import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    DisconnectReceived,
    Event,
    HeartbeatPassed,
    LimitsChanged,
    MalformedPacketReceived,
    MessagePublished,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    QueuePurged,
    ServerStopping,
    SessionDiscarded,
    SessionExpirySet,
    SessionKicked,
    SubscribeReceived,
    SubscriptionsAdded,
    SubscriptionsRemoved,
    UnsubscribeReceived,
    WillRevoked,
)
from mqtt_sessions.messages import Message
from mqtt_sessions.policy import SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.testing.judge import Judge
from mqtt_sessions.testing.moves_profile import CLIENTS, EVERYTHING, REAL_TIME, Profile
from mqtt_sessions.testing.transcript import Step

__all__ = ["EVERYTHING", "REAL_TIME", "Move", "Player", "Profile", "kinds_of_moves"]

Move = tuple[int, int, int, int]
"""Index of the kind in `kinds_of_moves`, number of the client, and two numbers for the variant."""

HIGHEST = 47
"""The numbers that choose among variants go from 0 to this one."""

TOPICS = ("t", "t/x", "u", "$s")
FILTERS = ("t", "t/+", "#", "t/#", "u", "$s", "+", "+/x")

_BAD_FILTERS = ("t/#/x", "", "t+", "$share/g/t")
_BAD_TOPICS = ("t/+", "#", "")
_FIRST_OF_SUBSCRIBES = 101
_UNKNOWN_ID = 99


class _Peer:
    """A network connection as the client at its other end sees it."""

    __slots__ = ("client_id", "connection", "done", "owed", "version")

    def __init__(self, connection: int, client_id: str, version: int) -> None:
        self.connection = connection
        self.client_id = client_id
        self.version = version
        self.owed: list[tuple[type[Any], int]] = []
        """Acknowledgements that the client owes, in the order in which the packets came."""
        self.done: list[tuple[type[Any], int]] = []
        """Those that it has sent."""


class Player:
    """Turns moves into events, by what clients have seen so far, and feeds them to a judge.

    Args:
        judge: Who takes the events.
        profile: What may happen.
        connects: CONNECT packets to choose from; connection and client id are filled in.
        limits: The store's limits, as `LimitsChanged` varies them.
    """

    def __init__(
        self,
        judge: Judge,
        profile: Profile,
        connects: Sequence[ClientConnected],
        limits: SessionLimits,
    ) -> None:
        self.now = 0.0
        self._judge = judge
        self._profile = profile
        self._connects = connects
        self._limits = limits
        self._clients = CLIENTS[: profile.clients]
        self._topics, self._filters, self._bad_filters = (
            [each for each in names if profile.host or not each.startswith("$")]
            for names in (TOPICS, FILTERS, _BAD_FILTERS)  # $: brokers are free [NN-12.9, NN-13.10]
        )
        self._kinds = tuple(_MOVES[name] for name in kinds_of_moves(profile))
        self._connections = 0
        self._messages = 0
        self._subscribes = _FIRST_OF_SUBSCRIBES
        self._open: dict[int, _Peer] = {}
        self._closed: list[_Peer] = []  # by the server, and not yet told to be lost
        self._dies, self._down = "", 0.0
        self._exchanges: dict[str, dict[int, Message]] = {}  # QoS 2 towards the server, by client

    def play(self, move: Move) -> None:
        """Do one thing.

        Raises:
            AssertionError: The subject answered as no rule allows.
        """
        kind, who, x, y = move
        self._kinds[kind](self, who, x, y)

    # ------------------------------------------------------------ what comes back

    def _feed(self, event: Event) -> None:
        if not self._dies:
            self._see(self._judge.feed(event, self.now))
        elif self._dies == "before the commit":
            self._die(event)
        else:
            self._judge.feed(event, self.now)  # what comes of it is durable, and nobody sees it
            self._die()

    def _die(self, unheard: Event | None = None) -> None:
        """The process dies, with all connections, and a new one finds the journal."""
        self._dies = ""
        self._open.clear()
        self._closed.clear()
        if self._profile.time:
            self.now += self._down
        self._judge.crash(self.now, unheard)

    def _see(self, step: Step) -> None:
        """What the clients learn from a step."""
        for action in step.actions:
            peer = self._open.get(getattr(action, "connection", 0))
            if peer is None:
                continue
            if isinstance(action, SendPublish):
                if action.packet_id is not None:
                    kind = PubackReceived if action.delivery.qos == 1 else PubrecReceived
                    peer.owed.append((kind, action.packet_id))
            elif isinstance(action, SendPubrel):
                peer.owed.append((PubcompReceived, action.packet_id))
            elif isinstance(action, SendPubcomp) or (
                isinstance(action, SendPubrec) and action.reason_code >= 0x80
            ):
                self._exchanges.get(peer.client_id, {}).pop(action.packet_id, None)
            elif isinstance(action, SendConnack):
                if action.reason_code == 0 and not action.session_present:
                    self._exchanges.pop(peer.client_id, None)
            elif isinstance(action, CloseConnection):
                del self._open[peer.connection]
                self._closed.append(peer)
        if not self._profile.late:
            while self._closed:
                self._feed(ConnectionLost(self._closed.pop(0).connection))

    def _choose(self, who: int, x: int, y: int) -> _Peer | None:
        """A client that is connected; if nobody is, somebody connects and that was the move."""
        if not self._open:
            self._connect(who, x, y)
            return None
        return list(self._open.values())[who % len(self._open)]

    # ------------------------------------------------------------ connections

    def _connect(self, who: int, x: int, y: int) -> None:
        """Mostly somebody who is away, who mostly subscribes; else a second connection."""
        present = {peer.client_id: peer for peer in self._open.values()}
        away = [each for each in self._clients if each not in present]
        client_id = self._clients[who % len(self._clients)]
        if client_id in present and away and y % 4:
            client_id = away[who % len(away)]
        if client_id in present and not self._profile.take_over:
            self._lose(present[client_id])
        event = self._connects[x % len(self._connects)]
        self._connections += 1
        named: dict[str, Any] = {"connection": self._connections, "client_id": client_id}
        if not event.client_id:
            client_id = f"assigned{self._connections}"
            named = {"connection": self._connections, "assigned_client_id": client_id}
            self._clients += (client_id,)
        # A client that comes back mostly wants its session.
        clean_start = event.clean_start if y % 3 == 0 else y % 3 == 2
        self._open[self._connections] = _Peer(self._connections, client_id, event.protocol_version)
        self._feed(evolve(event, clean_start=clean_start, **named))

    def _cut(self, who: int, x: int, y: int) -> None:
        """The network connection of somebody breaks, or a closed one is told to be lost."""
        if self._closed and (x % 2 or not self._open):
            self._feed(ConnectionLost(self._closed.pop(who % len(self._closed)).connection))
        elif (peer := self._choose(who, x, y)) is not None:
            self._lose(peer)

    def _lose(self, peer: _Peer) -> None:
        self._open.pop(peer.connection, None)
        self._feed(ConnectionLost(peer.connection))

    def _disconnect(self, who: int, x: int, y: int) -> None:
        peer = self._choose(who, x, y)
        if peer is None:
            return
        if peer.version < 5:
            self._feed(DisconnectReceived(peer.connection))
            return
        code = (0x00, 0x04, 0x80, 0x00)[x % 4]
        intervals = (None, 0, 3, 9) if self._profile.expiry else (None, None, 0, None)
        self._feed(DisconnectReceived(peer.connection, ReasonCode(code), intervals[y % 4]))

    def _ping(self, who: int, x: int, y: int) -> None:
        if (peer := self._choose(who, x, y)) is not None:
            answer = not (x % 4 == 3 and self._profile.host)
            self._feed(PingReceived(peer.connection, answer))

    def _stall(self, who: int, x: int, y: int) -> None:
        if (peer := self._choose(who, x, y)) is not None:
            congested = x % 2 == 0
            kind = ConnectionCongested if congested else ConnectionWritable
            self._feed(kind(peer.connection))

    def _crash(self, who: int, x: int, y: int) -> None:
        """The server dies: now, or in the middle of something else."""
        self._down = (0.0, 0.0, 0.5, 3.0)[x % 4]
        self._dies = ("now", "before the commit", "before the actions")[y % 3]
        if self._dies == "now":
            self._die()
        else:
            _IN_THE_MIDDLE_OF[y // 3 % len(_IN_THE_MIDDLE_OF)](self, who, x, y)
            if self._dies:
                self._die()

    # ------------------------------------------------------------ subscriptions

    def _subscription(self, x: int, y: int, version: int) -> Subscription:
        topic_filter, qos = self._filters[x % len(self._filters)], (1, 2, 0)[y % 3]
        if version < 5:
            return Subscription(topic_filter, qos)
        variant = y // 3
        return Subscription(
            topic_filter,
            qos,
            variant % 4 == 3,
            variant % 2 == 1,
            (0, 1, 2)[variant % 3],
            None if variant % 4 < 2 else 1 + variant % 5,
        )

    def _subscribe(self, who: int, x: int, y: int) -> None:
        peer = self._choose(who, x, y)
        if peer is None:
            return
        wanted = [self._subscription(x, y, peer.version)]
        if x >= 32:
            other = self._subscription(x + 3, y + 1, peer.version)
            wanted.append(evolve(other, subscription_id=wanted[0].subscription_id))
        refusals: tuple[ReasonCode | None, ...] = ()
        if self._profile.host and x % 8 == 7 and y % 4 == 3:
            refusals = (ReasonCode.NOT_AUTHORIZED, None)[: len(wanted)]
        self._feed(
            SubscribeReceived(peer.connection, self._subscribe_id(), tuple(wanted), refusals)
        )

    def _unsubscribe(self, who: int, x: int, y: int) -> None:
        if (peer := self._choose(who, x, y)) is not None:
            filters = [self._filters[x % len(self._filters)]]
            if y % 4 == 3:
                filters.append(self._filters[y % len(self._filters)])
            self._feed(UnsubscribeReceived(peer.connection, self._subscribe_id(), tuple(filters)))

    def _subscribe_id(self) -> int:
        self._subscribes += 1
        return self._subscribes

    # ------------------------------------------------------------ messages to the server

    def _message(self, x: int, y: int, version: int) -> Message:
        """A message whose payload is no other's; empty only to clear what is retained."""
        self._messages += 1
        retain = self._profile.retained and y // 3 % 2 == 1
        payload = b"" if retain and x // 4 % 4 == 3 else b"%d" % self._messages
        interval = None
        if version == 5 and self._profile.expiry:
            interval = (None, None, 3, 0, 8, None, 2, 100)[y // 6]
        topic_name = self._topics[x % len(self._topics)]
        return Message(topic_name, payload, (1, 2, 0)[y % 3], retain, interval)

    def _publish(self, who: int, x: int, y: int) -> None:
        peer = self._choose(who, x, y)
        if peer is None:
            return
        message = self._message(x, y, peer.version)
        refusal = None
        if self._profile.host and x == HIGHEST:
            refusal = (ReasonCode.NOT_AUTHORIZED, ReasonCode.QUOTA_EXCEEDED)[y % 2]
        packet_id = None
        if message.qos:
            mine = self._exchanges.setdefault(peer.client_id, {})
            packet_id = next(number for number in range(1, 1000) if number not in mine)
            if message.qos == 2:
                mine[packet_id] = message
        self._feed(PublishReceived(peer.connection, message, packet_id, False, refusal))

    def _talkers(self) -> list[_Peer]:
        """Clients with QoS 2 exchanges towards the server."""
        return [peer for peer in self._open.values() if self._exchanges.get(peer.client_id)]

    def _repeat(self, who: int, x: int, y: int) -> None:
        """PUBLISH again at QoS 2, as after a resume."""
        talkers = self._talkers()
        if not talkers:
            self._publish(who, x, 1)
            return
        peer = talkers[who % len(talkers)]
        mine = self._exchanges[peer.client_id]
        packet_id = list(mine)[x % len(mine)]
        self._feed(PublishReceived(peer.connection, mine[packet_id], packet_id, y % 3 != 2))

    def _release(self, who: int, x: int, y: int) -> None:
        """PUBREL for an exchange that is open."""
        talkers = self._talkers()
        if not talkers:
            self._publish(who, x, 1)
            return
        peer = talkers[who % len(talkers)]
        mine = self._exchanges[peer.client_id]
        self._feed(PubrelReceived(peer.connection, list(mine)[x % len(mine)]))

    # ------------------------------------------------------------ answers to the server

    def _debtor(self, who: int) -> _Peer | None:
        busy = [peer for peer in self._open.values() if peer.owed]
        return busy[who % len(busy)] if busy else None

    def _acknowledge(self, who: int, x: int, y: int) -> None:
        """What is owed, the oldest first or not; sometimes with an error, which 5.0 has."""
        peer = self._debtor(who)
        if peer is None:
            self._publish(who, x, y)
            return
        kind, packet_id = peer.owed.pop(x % len(peer.owed))
        code = ReasonCode.SUCCESS
        if peer.version == 5 and y >= 40 and kind is not PubcompReceived:
            code = (ReasonCode.UNSPECIFIED_ERROR, ReasonCode.QUOTA_EXCEEDED)[y % 2]
        peer.done.append((kind, packet_id))
        self._feed(kind(peer.connection, packet_id, code))

    def _acknowledge_all(self, who: int, x: int, y: int) -> None:
        """All that is owed by somebody, in order."""
        peer = self._debtor(who)
        if peer is None:
            self._publish(who, x, y)
            return
        for kind, packet_id in list(peer.owed):
            if peer.connection not in self._open:
                return
            peer.owed.remove((kind, packet_id))
            peer.done.append((kind, packet_id))
            self._feed(kind(peer.connection, packet_id))

    # ------------------------------------------------------------ peers that break rules

    def _misbehave(self, who: int, x: int, y: int) -> None:
        peer = self._choose(who, x, y)
        if peer is not None:
            self._feed(self._misdeed(peer, x, y))

    def _misdeed(self, peer: _Peer, x: int, y: int) -> Any:
        """Something that no client may do, or that only one in trouble does."""
        connection = peer.connection
        variant = x % 10
        kinds: tuple[type[Any], ...] = (
            PubackReceived,
            PubrecReceived,
            PubcompReceived,
            PubrelReceived,
        )
        if variant == 0:  # an identifier that nobody knows
            return kinds[y % 4](connection, _UNKNOWN_ID)
        if variant == 1 and peer.done:  # the same acknowledgement again
            kind, packet_id = peer.done[y % len(peer.done)]
            return kind(connection, packet_id)
        if variant == 2 and peer.owed:  # another packet than the one that is owed
            kind, packet_id = peer.owed[0]
            return next(each for each in kinds[y % 3 :] + kinds if each is not kind)(
                connection, packet_id
            )
        if variant == 3:  # an identifier that is taken: another message, or another command
            packet_id = next(iter(self._exchanges.get(peer.client_id, {})), 1)
            if y % 3 == 2:
                return SubscribeReceived(connection, packet_id, (Subscription("t", 1),))
            message = self._message(y, y % 3, peer.version)
            message = evolve(message, qos=1 + y % 2)
            if message.qos == 2:
                self._exchanges.setdefault(peer.client_id, {}).setdefault(packet_id, message)
            return PublishReceived(connection, message, packet_id)
        return self._ill_formed(peer, variant, y)

    def _ill_formed(self, peer: _Peer, variant: int, y: int) -> Event:
        """A packet that is wrong whatever was before."""
        connection = peer.connection
        subscription = Subscription("t", 1)
        if variant == 4:
            bad = Subscription(self._bad_filters[y % len(self._bad_filters)], 1)
            wanted = (subscription, bad) if y % 2 else (bad,)
            return SubscribeReceived(connection, self._subscribe_id(), wanted)
        if variant == 5:
            bad = (
                evolve(subscription, qos=3),
                evolve(subscription, retain_handling=3),
                evolve(subscription, subscription_id=0),
            )[y % (3 if peer.version == 5 else 1)]
            return SubscribeReceived(connection, self._subscribe_id(), (bad,))
        if variant == 6:
            empty = (SubscribeReceived, UnsubscribeReceived)[y % 2]
            return empty(connection, self._subscribe_id(), ())
        if variant == 7:
            message = Message(_BAD_TOPICS[y % len(_BAD_TOPICS)], b"bad")
            return PublishReceived(connection, message)
        if variant == 8:
            return MalformedPacketReceived(connection)
        if y % 2:
            return PublishReceived(connection, Message("t", b"bad", 1), 0)
        return ClientConnected(connection, peer.client_id, peer.version)

    def _come_late(self, who: int, x: int, y: int) -> None:
        """A packet of a connection that the server has closed already."""
        if not self._closed:
            self._publish(who, x, y)
            return
        peer = self._closed[who % len(self._closed)]
        event: Event
        if peer.owed and x % 2 == 0:
            kind, packet_id = peer.owed[0]
            event = kind(peer.connection, packet_id)
        else:
            event = (
                PublishReceived(peer.connection, self._message(x, y, 4), 1),
                SubscribeReceived(peer.connection, 1, (Subscription("#", 2),)),
                DisconnectReceived(peer.connection),
                PubrelReceived(peer.connection, 1),
                ConnectionWritable(peer.connection),
            )[y % 5]
        self._feed(event)

    # ------------------------------------------------------------ the host

    def _host_publishes(self, who: int, x: int, y: int) -> None:
        publisher = self._clients[who % len(self._clients)] if x >= 32 else None
        self._feed(MessagePublished(self._message(x, y, 5), publisher))

    def _administer(self, who: int, x: int, y: int) -> None:
        """The host does something to a session that there is."""
        there = sorted(self._judge.model.sessions)
        if not there:
            self._connect(who, x, y)
            return
        client_id = there[who % len(there)]
        topic_filter = self._filters[y % len(self._filters)]
        self._feed(
            (
                SessionKicked(client_id),
                SubscriptionsAdded(client_id, (self._subscription(y, x, 5),)),
                SubscriptionsRemoved(client_id, (topic_filter,)),
                SessionDiscarded(client_id),
                SessionExpirySet(client_id, (0, 3, None)[y % 3]),
                WillRevoked(client_id),
                QueuePurged(client_id, None, (None, self.now, self.now - 1)[y % 3]),
                QueuePurged(client_id, topic_filter),
            )[x % 8]
        )

    def _reorganize(self, who: int, x: int, y: int) -> None:
        """New limits, a sign of life, or the end of it all."""
        if x % 4 == 3:
            self._feed(ServerStopping() if x % 8 == 3 else HeartbeatPassed())
            return
        number = (0, 1, 2, 5)[y % 4]
        limits = (
            evolve(self._limits, maximum_queued_messages=number),
            evolve(self._limits, maximum_send_window=number + 1),
            evolve(self._limits, maximum_queued_messages=None, maximum_queued_bytes=None),
        )[x % 3]
        self._feed(LimitsChanged(limits))

    # ------------------------------------------------------------ time

    def _wait(self, who: int, x: int, y: int) -> None:
        """To the next deadline exactly, to just before it, beyond it, a bit, or back."""
        due = self._judge.model.next_deadline_at
        at = self.now + 1 if due is None else max(self.now, due)
        back = self.now - 2 if self._profile.clock_steps_back else self.now + 2
        self.now = (
            at,
            self.now + 1,
            max(self.now, at - 0.25),
            at + 0.25,
            self.now + 0.5,
            self.now + 5,
            at,
            back,
        )[x % 8]
        self._see(self._judge.pass_time(self.now))


_MOVES: dict[str, Callable[[Player, int, int, int], None]] = {
    "connect": Player._connect,
    "subscribe": Player._subscribe,
    "publish": Player._publish,
    "acknowledge": Player._acknowledge,
    "cut": Player._cut,
    "wait": Player._wait,
    "host publishes": Player._host_publishes,
    "acknowledge all": Player._acknowledge_all,
    "release": Player._release,
    "disconnect": Player._disconnect,
    "repeat": Player._repeat,
    "unsubscribe": Player._unsubscribe,
    "ping": Player._ping,
    "stall": Player._stall,
    "misbehave": Player._misbehave,
    "come late": Player._come_late,
    "administer": Player._administer,
    "reorganize": Player._reorganize,
    "crash": Player._crash,
}
_IN_THE_MIDDLE_OF: tuple[Callable[[Player, int, int, int], None], ...] = (
    Player._publish,
    Player._acknowledge,
    Player._release,
    Player._connect,
    Player._cut,
    Player._subscribe,
    Player._disconnect,
    Player._unsubscribe,
)
_NEEDS = {
    "wait": "time",
    "host publishes": "host",
    "stall": "congestion",
    "misbehave": "hostile",
    "come late": "late",
    "administer": "host",
    "reorganize": "host",
    "crash": "crashes",
}
_FREQUENT = (
    ("connect", 4),
    ("subscribe", 2),
    ("publish", 5),
    ("acknowledge", 4),
    ("wait", 3),
    ("release", 1),
    ("host publishes", 1),
)


def kinds_of_moves(profile: Profile) -> tuple[str, ...]:
    """The kinds of moves in a world, the plain ones first, then the frequent ones once more."""
    names = [name for name in _MOVES if getattr(profile, _NEEDS.get(name, "clients"))]
    more = [name for name, times in _FREQUENT if name in names for _ in range(times)]
    return (*names, *more)
