"""Random histories of a store: what three clients and a host do, in any order.

A step is an operation, a client and two small numbers that choose among its variants, so that a
failing history shrinks to a short one. What cannot happen now is left out.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from mqtt_sessions import (
    ConnectionCongested,
    ConnectionWritable,
    ExpiryPolicy,
    OverflowPolicy,
    Phase,
    QueuePurged,
    ServerStopping,
    SessionDiscarded,
    SessionExpirySet,
    SessionKicked,
    SessionLimits,
    SubscriptionsRemoved,
    WillRevoked,
)
from tests.core.helpers import NEVER, World, will

CLIENTS = ("a", "b", "c")
TOPICS = ("t", "t/x", "u", "$s")
FILTERS = ("t", "t/+", "t/#", "#", "$s")
LIMITS = SessionLimits(
    maximum_sessions=3,
    maximum_queued_messages=4,
    maximum_queued_bytes=30,
    maximum_inbound_qos2=2,
    maximum_retained_messages=3,
    retained_replay_batch=1,
)

Step = tuple[str, str, int, int]


class Life:
    """A world whose connections are told apart by their open client."""

    def __init__(self, *, retry_interval: float | None = None, durable: bool = False) -> None:
        policy = ExpiryPolicy(
            default_session_expiry_interval=6,
            inbound_qos2_interval=5,
            retry_interval=retry_interval,
        )
        self.world = World(policy=policy, limits=LIMITS, durable=durable)
        self.known: dict[int, str] = {}
        self.last = 0
        self.published = 0
        for client in CLIENTS:  # a history that begins with nothing hardly gets anywhere
            self.last += 1
            self.known[self.last] = client
            self.world.subscriber(
                self.last, client, "t/#", qos=2, session_expiry_interval=8, receive_maximum=2
            )

    def open(self, client: str) -> int | None:
        """The client's open connection."""
        session = self.world.store.get(client)
        connection = None if session is None else session.connection
        assert connection is None or isinstance(connection, int)
        return connection

    def step(self, step: Step) -> None:
        """Do one thing, if it can be done now."""
        name, client, x, y = step
        OPERATIONS[name](self, client, x, y)

    def rest(self, client: str, x: int, y: int) -> None:
        """Nothing: what a step shrinks to."""

    def connect(self, client: str, x: int, y: int) -> None:
        self.last += 1
        version = (5, 5, 4, 3)[y % 4]
        fields: dict[str, object] = {"protocol_version": version, "clean_start": x % 3 == 1}
        if version == 5:
            fields["session_expiry_interval"] = (0, 5, 9, NEVER)[x % 4]
            fields["receive_maximum"] = (1, 2, None)[y % 3]
        if y % 3 == 1:
            fields["keep_alive"] = 2
        if x % 4 == 2:
            delay = (0, 3, 20)[y % 3] if version == 5 else 0
            fields["will"] = will("t", delay, b"will", qos=y % 3, retain=y % 2 == 1)
        if x % 5 == 3:
            fields["limits"] = SessionLimits(
                maximum_queued_messages=3, overflow=tuple(OverflowPolicy)[y % 3], queue_qos0=False
            )
        if x % 7 == 5:
            fields["policy"] = ExpiryPolicy(inbound_qos2_interval=2, expire_in_flight=True)
        self.known[self.last] = client
        self.world.connect(self.last, client, **fields)

    def lose(self, client: str, x: int, y: int) -> None:
        for connection, owner in list(self.known.items()):
            if owner == client:
                del self.known[connection]
                self.world.lose(connection)
                return

    def disconnect(self, client: str, x: int, y: int) -> None:
        connection = self.open(client)
        if connection is not None:
            code = (0, 0, 4, 0x80)[x % 4]
            self.world.disconnect(
                connection, reason_code=code, session_expiry_interval=(None, 0, 7)[y % 3]
            )

    def subscribe(self, client: str, x: int, y: int) -> None:
        connection = self.open(client)
        if connection is not None:
            self.world.subscribe(connection, FILTERS[y % 5], qos=x % 3)

    def unsubscribe(self, client: str, x: int, y: int) -> None:
        connection = self.open(client)
        if connection is not None:
            self.world.unsubscribe(connection, FILTERS[y % 5])
        elif client in self.world.store:
            self.world.do(SubscriptionsRemoved(client, FILTERS[: y % 5]))

    def _message(self, x: int, y: int) -> tuple[str, bytes, dict[str, object]]:
        self.published += 1
        payload = b"" if y == 10 else b"%d" % self.published
        fields: dict[str, object] = {
            "qos": x % 3,
            "retain": y % 3 == 1,
            "message_expiry_interval": (None, 2, 4, 0)[y % 4],
        }
        return TOPICS[x // 3], payload, fields

    def publish(self, client: str, x: int, y: int) -> None:
        topic_name, payload, fields = self._message(x, y)
        self.world.publish(topic_name, payload, **fields)

    def send(self, client: str, x: int, y: int) -> None:
        connection = self.open(client)
        if connection is not None:
            topic_name, payload, fields = self._message(x, y)
            packet_id = None if fields["qos"] == 0 else 1 + y % 4
            self.world.send(connection, topic_name, payload, packet_id=packet_id, **fields)

    def acknowledge(self, client: str, x: int, y: int) -> None:
        """The right packet mostly; sometimes an error, and sometimes the wrong packet."""
        busy = [each for each in CLIENTS if self.open(each) and self.world.session(each).in_flight]
        client = client if client in busy or not busy else busy[0]
        connection = self.open(client)
        if connection is None:
            return
        in_flight = self.world.session(client).in_flight
        packet_id, phase = 1 + x % 4, Phase(1 + y % 3)
        if in_flight and y != 7:
            exchange = in_flight[y % len(in_flight)]
            packet_id, phase = exchange.packet_id, exchange.phase
        code = 0x80 if x == 6 else 0
        if phase is Phase.AWAITING_PUBACK:
            self.world.puback(connection, packet_id, code)
        elif phase is Phase.AWAITING_PUBREC:
            self.world.pubrec(connection, packet_id, code)
        else:
            self.world.pubcomp(connection, packet_id)

    def release(self, client: str, x: int, y: int) -> None:
        connection = self.open(client)
        if connection is not None:
            self.world.pubrel(connection, 1 + y % 4)

    def congest(self, client: str, x: int, y: int) -> None:
        connection = self.open(client)
        if connection is not None:
            event = ConnectionCongested if y % 2 else ConnectionWritable
            self.world.do(event(connection))

    def administer(self, client: str, x: int, y: int) -> None:
        if client not in self.world.store:
            return
        self.world.do(
            (
                SessionKicked(client),
                SessionDiscarded(client),
                SessionExpirySet(client, (0, 3, None)[x % 3]),
                QueuePurged(client, "t", None),
                QueuePurged(client, None, self.world.now - 1),
                WillRevoked(client),
            )[y % 6]
            if (x, y) != (11, 11)
            else ServerStopping()
        )

    def wait(self, client: str, x: int, y: int) -> None:
        """Time passes, and the host's timer is late, early, or slices its work."""
        self.world.now += (0.25, 0.5, 1.0, 3.0)[x % 4]
        if y % 3:
            self.world.tick(limit=(None, 1, 2)[x % 3])


OPERATIONS: dict[str, Callable[[Life, str, int, int], None]] = {
    "rest": Life.rest,
    "connect": Life.connect,
    "lose": Life.lose,
    "disconnect": Life.disconnect,
    "subscribe": Life.subscribe,
    "unsubscribe": Life.unsubscribe,
    "publish": Life.publish,
    "send": Life.send,
    "acknowledge": Life.acknowledge,
    "release": Life.release,
    "congest": Life.congest,
    "administer": Life.administer,
    "wait": Life.wait,
}

FREQUENT = ("connect", "subscribe", "publish", "publish", "acknowledge", "acknowledge", "wait")
STEPS = st.lists(
    st.tuples(
        st.sampled_from((*OPERATIONS, *FREQUENT)),
        st.sampled_from(CLIENTS),
        st.integers(0, 11),
        st.integers(0, 11),
    ),
    min_size=20,
    max_size=100,
)
