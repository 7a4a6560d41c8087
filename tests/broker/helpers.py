"""A broker in a thread, and clients of three makes: paho, raw bytes, mosquitto's programs.

Nothing here sleeps for longer than it has to: what is waited for is an event, a packet, or a
condition that is looked at again and again, and missing it fails after `FAILS_AFTER` seconds.
"""

from __future__ import annotations

import asyncio
import queue
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Self, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties

from examples.broker.broker import Broker
from examples.broker.configuration import Configuration
from mqtt_sessions import Message, ReasonCode, Subscription, wire
from mqtt_sessions.journals import Journal

FAILS_AFTER = 60.0
"""Seconds that no test takes; on a machine that is shared, ten of them may pass for nothing."""

PROTOCOLS = {3: paho.MQTTv31, 4: paho.MQTTv311, 5: paho.MQTTv5}

T = TypeVar("T")


def eventually(condition: Callable[[], T]) -> T:
    """Wait until a condition holds; return what it came to."""
    until = time.monotonic() + FAILS_AFTER
    while not (came_to := condition()):
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.005)
    return came_to


def port_that_stays_free() -> int:
    """For programs that are told their port: one that the system gives to nobody meanwhile.

    Clients would even be given it for their own end of the connection, and then talk to themselves.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port


def properties(kind: int, **values: Any) -> Properties:
    """paho's properties of a packet."""
    made = Properties(kind)
    for name, content in values.items():
        setattr(made, name, content)
    return made


class RunningBroker:
    """The example broker with an event loop in a thread of its own, on a free port."""

    def __init__(
        self, configuration: Configuration | None = None, journal: Journal | None = None
    ) -> None:
        self.configuration, self.journal = configuration, journal
        self.problems: list[dict[str, Any]] = []
        self.gave_up = threading.Event()
        self.port = 0
        self._ready: queue.Queue[BaseException | None] = queue.Queue()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        problem = self._ready.get(timeout=FAILS_AFTER)
        if problem is not None:
            raise problem

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self.problems.append(context))
        self._stop = asyncio.Event()
        try:
            self.broker = Broker(self.configuration, self.journal, self.gave_up.set)
            [(_, self.port)] = await self.broker.start("127.0.0.1", 0)
        except BaseException as problem:
            self._ready.put(problem)
            raise
        self._ready.put(None)
        await self._stop.wait()
        await self.broker.stop()
        await asyncio.sleep(0)

    def call(self, function: Callable[[Broker], T]) -> T:
        """Run something in the broker's thread."""

        async def run() -> T:
            return function(self.broker)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(FAILS_AFTER)

    def parked(self, client_id: str) -> bool:
        """Whether a session waits for its client."""

        def look(broker: Broker) -> bool:
            session = broker.store.get(client_id)
            return session is not None and not session.connected

        return self.call(look)

    def small_send_buffers(self) -> None:
        """Let the system hold few bytes for a client, so that a slow one is noticed soon."""

        def set_size(broker: Broker) -> None:
            assert broker._server is not None
            for listener in broker._server.sockets:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

        self.call(set_size)

    def unwritten(self) -> int:
        """The largest number of bytes that the broker holds for one client."""
        return self.call(
            lambda broker: max(
                each._transport.get_write_buffer_size()  # type: ignore[union-attr]
                for each in broker.connections
            )
        )

    def gone(self, client_id: str) -> bool:
        return self.call(lambda broker: client_id not in broker.store)

    def check(self) -> None:
        """The store is sound, and nothing that happened was a surprise to asyncio."""
        self.call(lambda broker: broker.store.check())
        assert self.problems == [], self.problems

    def stop(self, *, problems: int = 0) -> None:
        """Stop it; it must have come through the test unharmed, but for problems at the end."""
        try:
            self.check()
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(FAILS_AFTER)
        assert not self._thread.is_alive()
        assert len(self.problems) == problems, self.problems


class RawClient:
    """A client that sends and sees single packets, and any bytes that it likes."""

    def __init__(
        self,
        port: int,
        version: int = 5,
        *,
        topic_alias_maximum: int = 0,
        receive_buffer: int | None = None,
    ) -> None:
        self.version = version
        self.socket = socket.socket()
        self.socket.settimeout(FAILS_AFTER)
        if receive_buffer is not None:  # has to be said before the connection is there
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._topic_alias_maximum = topic_alias_maximum
        self._decoder = wire.Decoder(
            wire.Role.CLIENT, version, topic_alias_maximum=topic_alias_maximum
        )
        self._items: list[wire.Packet | wire.WireError] = []
        self._packet_id = 0
        self.seen = b""  # all bytes that have come

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def send(self, *packets: wire.Packet) -> None:
        self.send_bytes(b"".join(wire.encode(packet, self.version) for packet in packets))

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> Any:
        """The next packet; None once the broker has closed the connection."""
        while not self._items:
            try:
                data = self.socket.recv(65_536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.seen += data
            self._items = list(self._decoder.feed(data))
        item = self._items.pop(0)
        assert not isinstance(item, wire.WireError), item
        return item

    def receive_all(self) -> list[Any]:
        """All packets until the broker closes the connection."""
        packets = []
        while (packet := self.receive()) is not None:
            packets.append(packet)
        return packets

    def connect(self, client_id: str = "raw", **fields: Any) -> Any:
        """CONNECT, and the broker's answer."""
        if self.version == 5 and self._topic_alias_maximum:
            fields.setdefault("topic_alias_maximum", self._topic_alias_maximum)
        self.send(wire.Connect(client_id, self.version, **fields))
        return self.receive()

    def subscribe(self, topic_filter: str, qos: int = 0, **options: Any) -> list[ReasonCode]:
        self._packet_id += 1
        subscription = Subscription(topic_filter, qos, **options)
        self.send(wire.Subscribe(self._packet_id, (subscription,)))
        answer = self.receive()
        assert isinstance(answer, wire.Suback)
        assert answer.packet_id == self._packet_id
        return list(answer.reason_codes)

    def publish(self, topic_name: str, payload: bytes = b"", qos: int = 0, **fields: Any) -> Any:
        """PUBLISH; at QoS 1 and 2 the PUBACK or PUBREC that answers it."""
        self._packet_id += qos > 0
        packet_id = self._packet_id if qos else None
        self.send(wire.Publish(Message(topic_name, payload, qos, **fields), packet_id))
        return self.receive() if qos else None

    def before_ping(self) -> list[Any]:
        """All that the broker has sent until it has taken in all that was sent to it."""
        self.send(wire.Pingreq())
        packets = []
        while not isinstance(packet := self.receive(), wire.Pingresp):
            assert packet is not None, f"closed after {packets}"
            packets.append(packet)
        return packets


class PahoClient:
    """A paho client with its own network thread; callbacks become queues that one waits at."""

    def __init__(self, port: int, version: int, client_id: str, *, clean: bool = True) -> None:
        self.port, self.version, self.clean = port, version, clean
        options: dict[str, Any] = {} if version == 5 else {"clean_session": clean}
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=PROTOCOLS[version],
            reconnect_on_failure=False,
            **options,
        )
        self._heard: dict[str, queue.Queue[Any]] = {
            name: queue.Queue() for name in ("connect", "message", "subscribe", "disconnect")
        }
        self.client.on_connect = lambda c, u, flags, code, told: self._heard["connect"].put(
            (flags.session_present, code.value, told)
        )
        self.client.on_message = lambda c, u, message: self._heard["message"].put(message)
        self.client.on_subscribe = lambda c, u, mid, codes, told: self._heard["subscribe"].put(
            [code.value for code in codes]
        )
        self.client.on_disconnect = lambda c, u, flags, code, told: self._heard["disconnect"].put(
            (flags.is_disconnect_packet_from_server, code.value)
        )

    def hear(self, what: str) -> Any:
        return self._heard[what].get(timeout=FAILS_AFTER)

    def silent(self) -> bool:
        return self._heard["message"].empty()

    def connect(self, told: Properties | None = None) -> tuple[bool, int]:
        """Session Present and the code."""
        options: dict[str, Any] = {}
        if self.version == 5:
            options = {"clean_start": self.clean, "properties": told}
        self.client.connect("127.0.0.1", self.port, keepalive=60, **options)
        self.client.loop_start()
        session_present, code, self.connack = self.hear("connect")
        return session_present, code

    def subscribe(self, topic_filter: str, qos: int = 0) -> list[int]:
        self.client.subscribe(topic_filter, qos)
        return self.hear("subscribe")  # type: ignore[no-any-return]

    def publish(self, topic_name: str, payload: bytes, qos: int = 0, **options: Any) -> None:
        """Publish; come back when the broker has acknowledged it."""
        self.publish_all([(topic_name, payload, qos)], **options)

    def publish_all(self, messages: Iterable[tuple[str, bytes, int]], **options: Any) -> None:
        """The same for many, which need not wait for each other."""
        for info in [self.client.publish(*message, **options) for message in messages]:
            info.wait_for_publish(FAILS_AFTER)
            assert info.is_published()

    def message(self) -> Any:
        return self.hear("message")

    def disconnect(self, told: Properties | None = None) -> None:
        self.client.disconnect(properties=told)
        self.hear("disconnect")
        self._stop()

    def die(self) -> None:
        """Lose the connection without a DISCONNECT."""
        sock = self.client.socket()
        assert sock is not None
        sock.shutdown(socket.SHUT_RDWR)
        self.hear("disconnect")
        self._stop()

    def close(self) -> None:
        """Leave nothing behind, whatever state the test left it in."""
        self.client.disconnect()
        self._stop()

    def _stop(self) -> None:
        self.client.loop_stop()
        # paho makes a new pair of sockets for its thread each time and never closes the old one.
        self.client._reset_sockets(sockpair_only=True)
