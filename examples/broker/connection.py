"""One client's TCP connection: bytes in, events out; actions in, bytes out."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import attrs

from examples.broker.authorization import judge_publish, judge_subscribe
from mqtt_sessions import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    Event,
    PublishReceived,
    ReasonCode,
    SendPublish,
    SubscribeReceived,
    wire,
)

if TYPE_CHECKING:
    from examples.broker.broker import Broker

__all__ = ["Connection"]

READ_SIZE = 16_384
"""Bytes in one read: what one client can make the broker do before the next one's turn."""

WRITE_SIZE = 65_536
"""Bytes that are put together for one write."""

ANSWERS_SIZE = 65_536
"""Bytes of answers to a client that takes none, until nothing more is read from it."""

CONNECT_SIZE = 65_536
"""Bytes held of a CONNECT that is not complete (RabbitMQ's `max_packet_size_unauthenticated`)."""

CONNECT_TIMEOUT = 10.0
"""Seconds in which CONNECT has to come."""

CLOSE_TIMEOUT = 5.0
"""Seconds in which a client has to take what was written before its connection was closed."""

LARGEST_SENT = 268_435_460 - 3
"""Bytes: the protocol's largest packet, less what a topic alias adds to it."""

OUTBOUND_ALIASES = 64
"""Topic aliases used towards one client, however many it offers: each keeps a topic name."""


class Connection(asyncio.BufferedProtocol):
    """A client's connection; the object itself is its name in events and actions."""

    def __init__(self, broker: Broker, loop: asyncio.AbstractEventLoop) -> None:
        options = broker.options
        self._broker = broker
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._decoder = wire.Decoder(
            wire.Role.SERVER,
            maximum_packet_size=options.maximum_packet_size,
            topic_alias_maximum=options.topic_alias_maximum,
        )
        self._encoder: wire.Encoder | None = None
        self._is_known = False  # to the store: ClientConnected was fed
        self.is_closed = False  # for packets: nothing more is taken in, nor sent
        self._read_buffer = bytearray()
        self._unwritten: list[bytes] = []
        self._unwritten_size = 0
        self._is_congested = False
        self._answers_size = 0  # since it is congested
        # Not a session's business: how long a stranger may stay, and a leaver.
        self._time_out: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------ what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not self._broker.admits(self):
            self.abort()
            return
        self._time_out = self._loop.call_later(CONNECT_TIMEOUT, self.close)

    def get_buffer(self, sizehint: int) -> bytearray:
        self._read_buffer = bytearray(READ_SIZE)
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        data, self._read_buffer = bytes(self._read_buffer[:nbytes]), bytearray()
        if self.is_closed:
            return
        items = self._decoder.feed(data)
        if not self._is_known:
            if items:
                self._greet(items.pop(0))
            elif self._decoder.buffered > CONNECT_SIZE:
                self.close()
        if self._is_known and items and not self.is_closed:
            self._broker.host.feed(*self._events(items))

    def pause_writing(self) -> None:
        self._is_congested = True
        if self._is_known:
            self._broker.host.feed_first(ConnectionCongested(self))

    def resume_writing(self) -> None:
        assert self._transport is not None
        self._is_congested, self._answers_size = False, 0
        self._transport.resume_reading()
        if self._is_known:
            self._broker.host.feed(ConnectionWritable(self))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._time_out is not None:
            self._time_out.cancel()
        try:
            if self._is_known:
                self._broker.host.feed(ConnectionLost(self))
        finally:
            self._broker.forget(self)

    # ------------------------------------------------------------ from the client

    def _greet(self, item: wire.Packet | wire.WireError) -> None:
        """The first thing that a client has sent: CONNECT, or no MQTT at all."""
        if isinstance(item, wire.WireError):
            self._refuse(item.protocol_version, item.reason_code)
            return
        assert isinstance(item, wire.Connect)  # the decoder lets nothing else come first
        version = item.protocol_version
        if item.authentication_method is not None:
            # MQTT-4.12.0-1: no enhanced authentication here
            self._refuse(version, ReasonCode.BAD_AUTHENTICATION_METHOD)
            return
        # Here a host checks user name and password. This one takes whatever comes.
        refused = self._broker.configuration.refuse_publish
        if item.will is not None and judge_publish(item.will.message, refused) is not None:
            self._refuse(version, ReasonCode.NOT_AUTHORIZED)
            return
        self._encoder = wire.Encoder(
            version,
            self._broker.cache,
            topic_alias_maximum=min(item.topic_alias_maximum or 0, OUTBOUND_ALIASES),
            maximum_packet_size=item.maximum_packet_size,
        )
        event = wire.to_event(item, self)
        if isinstance(event, ClientConnected) and not item.client_id:
            # Whether a client may come without one is the library's question.
            event = attrs.evolve(event, assigned_client_id=uuid.uuid4().hex)
        maximum = item.maximum_packet_size
        if (
            version == 5
            and self._broker.takes_huge_packets
            and (maximum is None or maximum > LARGEST_SENT)
        ):
            # Subscription identifiers make a packet longer than it came, and then longer than any
            # may be: so that the library drops the message.
            event = attrs.evolve(event, maximum_packet_size=LARGEST_SENT)
        if self._time_out is not None:
            self._time_out.cancel()
        self._is_known = True
        self._broker.host.feed(event)

    def _events(self, items: Iterable[wire.Packet | wire.WireError]) -> Iterator[Event]:
        """Packets as events, with the host's verdict where it has one."""
        configuration = self._broker.configuration
        for item in items:
            event: Event = wire.to_event(item, self)
            if isinstance(event, PublishReceived) and configuration.refuse_publish:
                refusal = judge_publish(event.message, configuration.refuse_publish)
                event = attrs.evolve(event, refusal=refusal)
            elif isinstance(event, SubscribeReceived) and configuration.refuse_subscribe:
                refusals = judge_subscribe(event.subscriptions, configuration.refuse_subscribe)
                event = attrs.evolve(event, refusals=refusals)
            yield event

    def _refuse(self, protocol_version: int | None, reason_code: ReasonCode) -> None:
        """Answer a CONNECT that the store never sees, as far as its version has words for it."""
        assert self._transport is not None
        self._transport.write(wire.refuse_connect(protocol_version, reason_code))
        self.close()

    # ------------------------------------------------------------ to the client

    def send(self, action: wire.SendAction) -> None:
        """Encode a packet; it is written by the next `flush`."""
        assert self._encoder is not None
        if self.is_closed:
            return
        data = self._encoder.encode(action)
        self._unwritten.append(data)
        self._unwritten_size += len(data)
        if self._unwritten_size >= WRITE_SIZE:
            self.flush()  # now, so that a client that cannot keep up is known before the next one
        if self._is_congested and not isinstance(action, SendPublish):
            # The store holds PUBLISH back, not what answers the client's own packets.
            self._answers_size += len(data)
            if self._answers_size > ANSWERS_SIZE and self._transport is not None:
                self._transport.pause_reading()

    def flush(self) -> None:
        """Write what has been sent."""
        if self._unwritten and self._transport is not None:
            data = b"".join(self._unwritten)
            self._unwritten.clear()
            self._unwritten_size = 0
            if not self._transport.is_closing():  # it may be lost, and that not yet told
                self._transport.write(data)

    def close(self) -> None:
        """Close once everything has been written; not for longer than a while."""
        if self.is_closed or self._transport is None:
            return
        self.flush()
        self.is_closed = True
        self._transport.close()
        if self._time_out is not None:
            self._time_out.cancel()
        self._time_out = self._loop.call_later(CLOSE_TIMEOUT, self.abort)

    def abort(self) -> None:
        """Close at once; what was not written is lost."""
        self.is_closed = True
        if self._transport is not None:
            self._transport.abort()
