"""A small world for scenarios: a store, a clock that only the test moves, and clients.

Every step ends with `store.check()`, and every action passes a witness that knows what no server
may ever do, whatever the scenario is about: say something before CONNACK or after a close, use a
packet identifier twice, go beyond Receive Maximum, answer with a code that the packet cannot
carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest

from mqtt_sessions import (
    Action,
    ClientConnected,
    CloseConnection,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    ConnectReturnCode,
    Delivery,
    DisconnectReceived,
    Event,
    ExpiryPolicy,
    Message,
    MessageDropped,
    MessagePublished,
    Notice,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    ReasonCode,
    RetainedMessageDropped,
    RowSetAside,
    SendConnack,
    SendDisconnect,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SendUnsuback,
    ServerOptions,
    Session,
    SessionLimits,
    SessionStore,
    SubscribeReceived,
    Subscription,
    UnsubscribeReceived,
    Will,
)
from mqtt_sessions.journals import Journal

RC = ReasonCode
OK = ReasonCode.SUCCESS
NEVER_ON_WIRE = 0xFFFFFFFF
KEPT = 3600
"""Session Expiry Interval of a 5.0 client that keeps its session, where the number is no matter."""

spec = pytest.mark.spec
fault = pytest.mark.fault
all_versions = pytest.mark.parametrize("version", [3, 4, 5], ids=["3.1", "3.1.1", "5.0"])
old_versions = pytest.mark.parametrize("version", [3, 4], ids=["3.1", "3.1.1"])
both_versions = pytest.mark.parametrize("version", [4, 5], ids=["3.1.1", "5.0"])

A = TypeVar("A")

_ACK_CODES = frozenset({0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99})
_SUBACK_CODES = {
    3: frozenset({0, 1, 2}),
    4: frozenset({0, 1, 2, 0x80}),
    5: frozenset({0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}),
}
_UNSUBACK_CODES = frozenset({0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91})
_DISCONNECT_CODES = frozenset(
    {0x00, *range(0x80, 0x84), 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, *range(0x93, 0xA3)}
)


class _Witness:
    """What one client sees on one connection, and what it must never see."""

    def __init__(self, event: ClientConnected) -> None:
        self.version = event.protocol_version
        self.receive_maximum = event.receive_maximum or 65_535
        self.greeted = False
        self.refused = False
        self.leaving = False
        self.closed = False
        self.outstanding: dict[int, int] = {}
        self.released: set[int] = set()

    def saw(self, action: Action) -> None:
        assert not self.closed, f"{action} after the connection was closed"
        if isinstance(action, CloseConnection):
            self.closed = True
            return
        assert not self.leaving, f"{action} after DISCONNECT [MQTT-3.14.4-1]"
        if isinstance(action, SendConnack):
            assert not self.greeted, "a second CONNACK [MQTT-3.2.0-2]"
            self.greeted = True
            self.refused = action.reason_code != 0
            assert not (self.refused and action.session_present), "[MQTT-3.2.2-6]"
            kind = ReasonCode if self.version == 5 else ConnectReturnCode
            assert isinstance(action.reason_code, kind)
            return
        assert self.greeted, f"{action} before CONNACK [MQTT-3.2.0-1]"
        assert not self.refused, f"{action} after a refused CONNECT [MQTT-3.1.4-6]"
        if isinstance(action, SendDisconnect):
            assert self.version == 5, "MQTT 3.x servers send no DISCONNECT"
            assert action.reason_code in _DISCONNECT_CODES, "[MQTT-3.14.2-1]"
            self.leaving = True
        elif isinstance(action, SendPublish):
            self._saw_publish(action)
        elif isinstance(action, SendPuback | SendPubrec):
            assert action.reason_code in _ACK_CODES, "[MQTT-3.4.2-1], [MQTT-3.5.2-1]"
        elif isinstance(action, SendPubrel):
            assert action.reason_code in (0x00, 0x92), "[MQTT-3.6.2-1]"
            if action.reason_code == 0:
                self.released.add(action.packet_id)
        elif isinstance(action, SendPubcomp):
            assert action.reason_code in (0x00, 0x92), "[MQTT-3.7.2-1]"
        elif isinstance(action, SendSuback):
            assert set(action.reason_codes) <= _SUBACK_CODES[self.version], "[MQTT-3.9.3-2]"
        elif isinstance(action, SendUnsuback):
            assert set(action.reason_codes) <= _UNSUBACK_CODES, "[MQTT-3.11.3-2]"

    def _saw_publish(self, action: SendPublish) -> None:
        packet_id, qos = action.packet_id, action.delivery.qos
        topic_name = action.delivery.message.topic_name
        assert "+" not in topic_name
        assert "#" not in topic_name
        if qos == 0:
            assert packet_id is None, "[MQTT-2.2.1-2]"
            assert not action.dup, "[MQTT-3.3.1-2]"
            return
        assert packet_id is not None
        assert 1 <= packet_id <= 65_535, "[MQTT-2.2.1-4]"
        assert packet_id not in self.released, "PUBLISH after PUBREL [MQTT-4.3.3-6]"
        if not action.dup:
            assert packet_id not in self.outstanding, "identifier in use [MQTT-2.2.1-4]"
        self.outstanding[packet_id] = qos
        assert len(self.outstanding) <= self.receive_maximum, "[MQTT-4.9.0-2]"

    def sends(self, event: Event) -> None:
        if isinstance(event, PubackReceived) and self.outstanding.get(event.packet_id) == 1:
            del self.outstanding[event.packet_id]
        elif (isinstance(event, PubrecReceived) and event.reason_code >= 0x80) or (
            isinstance(event, PubcompReceived) and event.packet_id in self.released
        ):
            self.outstanding.pop(event.packet_id, None)
            self.released.discard(event.packet_id)


class Client:
    """One network connection of a client, and what the server has sent on it."""

    def __init__(self, world: World, connection: int, event: ClientConnected) -> None:
        self.world = world
        self.connection = connection
        self.client_id = event.client_id or event.assigned_client_id or ""
        self.version = event.protocol_version
        self.inbox: list[Action] = []

    def take(self) -> list[Action]:
        """What the server has sent since this was last asked."""
        taken, self.inbox = self.inbox, []
        return taken

    def feed(self, event: Event) -> list[Action]:
        """Send something, and see what the server has sent since this was last asked."""
        self.world.feed(event)
        return self.take()

    @property
    def session(self) -> Session:
        return self.world.store[self.client_id]

    @property
    def connack(self) -> SendConnack:
        (connack,) = only(SendConnack, self.inbox)
        return connack

    # -------------------------------------------------- packets

    def subscribe(self, *filters: str | Subscription, qos: int = 0, **more: Any) -> list[Action]:
        fields = {key: more.pop(key) for key in ("packet_id", "refusals") if key in more}
        wanted = tuple(
            Subscription(each, qos, **more) if isinstance(each, str) else each for each in filters
        )
        packet_id = fields.pop("packet_id", None) or self.world.next_id()
        return self.feed(SubscribeReceived(self.connection, packet_id, wanted, **fields))

    def unsubscribe(self, *filters: str, **fields: Any) -> list[Action]:
        packet_id = fields.pop("packet_id", None) or self.world.next_id()
        return self.feed(UnsubscribeReceived(self.connection, packet_id, filters, **fields))

    def publish(
        self,
        topic_name: str,
        payload: bytes = b"x",
        qos: int = 0,
        packet_id: int | None = None,
        *,
        dup: bool = False,
        refusal: ReasonCode | None = None,
        **more: Any,
    ) -> list[Action]:
        """PUBLISH; at QoS 2 the exchange stays open, see `publish_to_the_end`."""
        if qos and packet_id is None:
            packet_id = self.world.next_id()
        message = Message(topic_name, payload, qos, **more)
        return self.feed(PublishReceived(self.connection, message, packet_id, dup, refusal))

    def publish_to_the_end(self, topic_name: str, payload: bytes = b"x", **more: Any) -> None:
        """PUBLISH at QoS 2, with PUBREL."""
        packet_id = self.world.next_id()
        self.publish(topic_name, payload, 2, packet_id, **more)
        self.pubrel(packet_id)

    def puback(self, packet_id: int, code: ReasonCode = OK) -> list[Action]:
        return self.feed(PubackReceived(self.connection, packet_id, code))

    def pubrec(self, packet_id: int, code: ReasonCode = OK) -> list[Action]:
        return self.feed(PubrecReceived(self.connection, packet_id, code))

    def pubrel(self, packet_id: int, code: ReasonCode = OK) -> list[Action]:
        return self.feed(PubrelReceived(self.connection, packet_id, code))

    def pubcomp(self, packet_id: int, code: ReasonCode = OK) -> list[Action]:
        return self.feed(PubcompReceived(self.connection, packet_id, code))

    def ping(self) -> list[Action]:
        return self.feed(PingReceived(self.connection))

    def disconnect(self, code: ReasonCode | int = OK, expiry: int | None = None) -> list[Action]:
        """DISCONNECT, and the end of the connection that follows it."""
        seen = self.feed(DisconnectReceived(self.connection, code, expiry))
        self.world.feed(ConnectionLost(self.connection))
        return seen

    def lose(self) -> None:
        """The network connection breaks."""
        self.world.feed(ConnectionLost(self.connection))

    def congest(self) -> None:
        self.world.feed(ConnectionCongested(self.connection))

    def drain(self) -> list[Action]:
        return self.feed(ConnectionWritable(self.connection))

    # -------------------------------------------------- reading

    def received(self) -> list[bytes]:
        """Payloads of the PUBLISH packets seen since this was last asked."""
        return payloads(self.take())

    def deliveries(self) -> list[Delivery]:
        """The same with QoS, RETAIN flag and Subscription Identifiers."""
        return [action.delivery for action in only(SendPublish, self.take())]

    def acknowledge_all(self) -> list[bytes]:
        """Acknowledge everything until nothing more comes; the payloads in order of arrival."""
        seen: list[bytes] = []
        actions = self.take()
        while actions:
            for action in actions:
                if isinstance(action, SendPublish):
                    seen.append(action.delivery.message.payload)
                    if action.delivery.qos == 1:
                        self.world.feed(PubackReceived(self.connection, action.packet_id))
                    elif action.delivery.qos == 2:
                        self.world.feed(PubrecReceived(self.connection, action.packet_id))
                elif isinstance(action, SendPubrel):
                    self.world.feed(PubcompReceived(self.connection, action.packet_id))
            actions = self.take()
        return seen


class World:
    """A store and a clock."""

    def __init__(
        self,
        *,
        policy: ExpiryPolicy | None = None,
        limits: SessionLimits | None = None,
        options: ServerOptions | None = None,
        size_of: Callable[[Delivery, int], int] | None = None,
        now: float = 1_000.0,
        journal: Journal | None = None,
    ) -> None:
        self.settings: tuple[Any, ...] = (
            policy or ExpiryPolicy(),
            limits or SessionLimits(),
            options or ServerOptions(),
            size_of,
        )
        self.journal = journal
        if journal is None:
            self.store = SessionStore(*self.settings)
        else:
            self.store = SessionStore.recover(journal.load(), now, *self.settings).store
        self.now = now
        self.check_each_step = True
        self.notices: list[Notice] = []
        self._clients: dict[int, Client] = {}
        self._witnesses: dict[int, _Witness] = {}
        self._connections = 0
        self._ids = 10_000

    # -------------------------------------------------- time

    def feed(self, event: Event) -> None:
        """One event at the world's present instant."""
        witness = self._witnesses.get(getattr(event, "connection", None))  # type: ignore[arg-type]
        if witness is not None:
            witness.sends(event)
        self._see(self.store.handle(event, self.now))

    def wait(self, seconds: float) -> None:
        """Let time pass with a host that is never late."""
        until = self.now + seconds
        while (at := self.store.next_deadline_at) is not None and at <= until:
            self.now = max(self.now, at)
            self._see(self.store.handle_timeout(self.now))
        self.now = until
        self._see(self.store.handle_timeout(self.now))

    def wait_late(self, seconds: float) -> None:
        """Let time pass with a host whose timer has not fired yet."""
        self.now += seconds

    def crash(
        self, journal: Journal, seconds: float = 0.0, *, cut_at_heartbeat: bool = False
    ) -> tuple[RowSetAside, ...]:
        """The process ends, and comes back after so long with what a journal, reopened, has."""
        self.now += seconds
        self.journal = journal
        self._clients.clear()
        self._witnesses.clear()
        recovered = SessionStore.recover(
            journal.load(), self.now, *self.settings, cut_at_heartbeat=cut_at_heartbeat
        )
        self.store = recovered.store
        self._see(self.store.handle_timeout(self.now))
        return recovered.set_aside

    def _see(self, outcome: Any) -> None:
        if self.journal is not None:
            self.journal.commit(outcome.changes)
        self.notices += outcome.notices
        for action in outcome.actions:
            self._witnesses[action.connection].saw(action)
            self._clients[action.connection].inbox.append(action)
        if self.check_each_step:
            self.store.check()

    def use_up_packet_ids(self, client: Client, topic_name: str, last: int) -> None:
        """Deliver and acknowledge at QoS 1 until identifier `last` was used; tens of thousands of
        steps, which is why they are not checked one by one."""
        message = Message(topic_name, b"filler", 1)
        used = 0
        while used != last:
            for action in self.store.handle(MessagePublished(message), self.now).actions:
                assert isinstance(action, SendPublish)
                assert action.packet_id is not None
                used = action.packet_id
                self.store.handle(PubackReceived(client.connection, used), self.now)
        self.store.check()

    # -------------------------------------------------- clients

    def next_id(self) -> int:
        """A packet identifier for the client's own packets."""
        self._ids += 1
        return self._ids

    def connect(
        self,
        client_id: str = "alice",
        version: int = 5,
        *,
        keep: bool = False,
        clean: bool | None = None,
        expiry: int | None = None,
        will: Will | None = None,
        **more: Any,
    ) -> Client:
        """CONNECT; `keep` is a session that outlives its connection, whatever the version."""
        if keep and version == 5 and expiry is None:
            expiry = KEPT
        self._connections += 1
        connection = self._connections
        event = ClientConnected(
            connection,
            client_id,
            version,
            not keep if clean is None else clean,
            expiry,
            will=will,
            **more,
        )
        client = self._clients[connection] = Client(self, connection, event)
        self._witnesses[connection] = _Witness(event)
        self.feed(event)
        return client

    def reconnect(self, client: Client, **more: Any) -> Client:
        """The connection breaks and the same client comes back to its session."""
        if self.store.session_of(client.connection) is not None:
            client.lose()
        fields: dict[str, Any] = {"version": client.version, "keep": True, **more}
        return self.connect(client.client_id, **fields)

    def publish(self, topic_name: str, payload: bytes = b"x", qos: int = 0, **more: Any) -> None:
        """The host publishes."""
        self.feed(MessagePublished(Message(topic_name, payload, qos, **more)))

    # -------------------------------------------------- notices

    def take_notices(self, kind: type[A]) -> list[A]:
        """Notices of one kind since this was last asked; the others stay."""
        taken = [notice for notice in self.notices if isinstance(notice, kind)]
        self.notices = [notice for notice in self.notices if not isinstance(notice, kind)]
        return taken

    def drops(self) -> list[tuple[str, bytes, str]]:
        """Client id, payload and reason of each copy dropped since this was last asked."""
        return [
            (notice.client_id, notice.delivery.message.payload, notice.reason.value)
            for notice in self.take_notices(MessageDropped)
        ]

    def retained_drops(self) -> list[tuple[bytes, str]]:
        return [
            (notice.message.payload, notice.reason.value)
            for notice in self.take_notices(RetainedMessageDropped)
        ]


def only(kind: type[A], actions: Iterable[Any]) -> list[A]:
    return [action for action in actions if isinstance(action, kind)]


def kinds(actions: Iterable[Any]) -> list[type]:
    return [type(action) for action in actions]


def payloads(actions: Iterable[Any]) -> list[bytes]:
    return [action.delivery.message.payload for action in only(SendPublish, actions)]


def ids(actions: Iterable[Any]) -> list[int | None]:
    """Packet identifiers of the PUBLISH packets."""
    return [action.packet_id for action in only(SendPublish, actions)]


def sent_again(actions: Iterable[Any]) -> list[tuple[int | None, bytes, bool]]:
    """Identifier, payload and DUP of the PUBLISH packets."""
    return [
        (action.packet_id, action.delivery.message.payload, action.dup)
        for action in only(SendPublish, actions)
    ]


def pubrels(actions: Iterable[Any]) -> list[int]:
    return [action.packet_id for action in only(SendPubrel, actions)]


def codes(actions: Iterable[Any]) -> tuple[ReasonCode, ...]:
    """The codes of the one SUBACK or UNSUBACK."""
    (answer,) = [action for action in actions if isinstance(action, SendSuback | SendUnsuback)]
    return answer.reason_codes


def closed_with(actions: Iterable[Any], version: int = 5) -> ReasonCode | None:
    """Why the server closed the connection; None if it did not.

    A 5.0 client is told by DISCONNECT, a 3.x client is just closed.
    """
    seen = list(actions)
    closes = only(CloseConnection, seen)
    if not closes:
        return None
    (close,) = closes
    told = [action.reason_code for action in only(SendDisconnect, seen)]
    assert told == ([close.reason_code] if version == 5 else [])
    return close.reason_code


def will(topic_name: str = "will", payload: bytes = b"w", delay: int = 0, **more: Any) -> Will:
    return Will(Message(topic_name, payload, **more), delay)


def numbered(count: int, start: int = 1) -> list[bytes]:
    """b"1", b"2", …"""
    return [str(number).encode() for number in range(start, start + count)]
