"""Bytes in, packets out: incremental and strict."""

from __future__ import annotations

from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.topic_aliases import InboundAliases
from mqtt_sessions.wire.packets import Auth, Connect, Packet, PacketType, WireError
from mqtt_sessions.wire.properties import malformed, protocol_error, read_text
from mqtt_sessions.wire.reading import PLAIN_ACKS, READERS, read_connect, read_publish
from mqtt_sessions.wire.tables import (
    FLAGS,
    FROM_CLIENT,
    FROM_SERVER,
    LARGEST_REMAINING_LENGTH,
    Role,
)

__all__ = ["Decoder"]

_PROTOCOL_VERSIONS = {("MQIsdp", 3): 3, ("MQTT", 4): 4, ("MQTT", 5): 5}
_HEADER_MAX = 5
_LARGEST_PACKET = LARGEST_REMAINING_LENGTH + _HEADER_MAX


class Decoder:
    """Decodes what the peer on one connection sends.

    An error is a value: `feed` returns it as the last item, behind all that was decoded before,
    so nothing gets lost and no `try` is needed. After it the decoder returns nothing more.

    A server's decoder learns the protocol version from CONNECT, refuses anything before it and a
    second one [MQTT-3.1.0-1], [MQTT-3.1.0-2]. Received topic aliases are resolved here, so that a
    `Publish` always has its full topic name. What it lets pass, because the session answers it:
    wildcards in a topic name (0x90), an ill-formed filter (0x8F), QoS above the maximum (0x9B),
    Subscription Identifiers in a client's PUBLISH (0x82).

    Args:
        role: The side that decodes; a server decodes what clients send.
        protocol_version: Of the connection: 3, 4 or 5. A client has to name it; a server that
            does is past CONNECT.
        maximum_packet_size: Bytes; a larger packet is refused with 0x95 once its header is there
            [MQTT-3.2.2-15]. None: the protocol's own 268,435,460.
        topic_alias_maximum: What this side announces; an alias above it is refused with 0x94.

    Attributes:
        protocol_version: None until a server has seen CONNECT.
        maximum_packet_size: May be set at any time; holds from the next `feed` on. A client may
            send more behind CONNECT in one read, so look at `buffered` to bound CONNECT alone.

    Raises:
        InvalidValue: A bad argument.

    *Bound* holds less than one packet of the size that its header declares, which is at most
    `maximum_packet_size`, and `topic_alias_maximum` topic names.

    Spec: MQTT 5.0 §2.1, §4.13.
    """

    __slots__ = (
        "_aliases",
        "_authentication_method",
        "_buffer",
        "_connected",
        "_failed",
        "_is_server",
        "_needed",
        "_saw_connect",
        "maximum_packet_size",
        "protocol_version",
    )

    def __init__(
        self,
        role: Role,
        protocol_version: int | None = None,
        *,
        maximum_packet_size: int | None = None,
        topic_alias_maximum: int = 0,
    ) -> None:
        self._is_server = role is Role.SERVER
        if protocol_version not in (3, 4, 5) and (
            protocol_version is not None or not self._is_server
        ):
            raise InvalidValue(
                f"Decoder.protocol_version must be 3, 4 or 5, not {protocol_version!r}"
            )
        self.protocol_version = protocol_version
        self.maximum_packet_size = _LARGEST_PACKET
        if maximum_packet_size is not None:
            if maximum_packet_size < 1:
                raise InvalidValue(
                    f"Decoder.maximum_packet_size must be 1 or more, not {maximum_packet_size!r}"
                )
            self.maximum_packet_size = maximum_packet_size
        self._connected = protocol_version is not None
        self._aliases = InboundAliases(topic_alias_maximum)
        self._saw_connect = False
        self._authentication_method: str | None = None
        self._buffer = bytearray()
        self._needed = 0  # bytes that the buffer must hold before looking again is of use
        self._failed = False

    @property
    def buffered(self) -> int:
        """Bytes held of a packet that has not arrived completely."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Packet | WireError]:
        """Take what has been read from the network; return what is complete.

        Args:
            data: Any number of bytes, cut anywhere.

        Returns:
            Packets in order; a `WireError` as the last item if the peer is at fault, after which
            the connection has to be closed and every later call returns an empty list.

        *Cost* O(bytes).
        """
        if self._failed:
            return []
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            data = bytes(self._buffer)
            self._buffer = bytearray()
        elif type(data) is not bytes:
            data = bytes(data)
        return self._decode(data)

    def _decode(self, data: bytes) -> list[Packet | WireError]:
        """Decode all complete packets, keep the rest."""
        items: list[Packet | WireError] = []
        position, size, first = 0, len(data), 0
        self._needed = 0
        try:
            while size - position >= 2:
                first = data[position]
                length = data[position + 1]
                start = position + 2
                minimal = True
                if length >= 0x80:
                    extended = _read_remaining_length(data, position + 1, size)
                    if extended is None:
                        break  # the rest of the Remaining Length is still to come
                    length, start, minimal = extended
                end = start + length
                if end - position > self.maximum_packet_size:
                    raise WireError(ReasonCode.PACKET_TOO_LARGE, "above the maximum packet size")
                if end > size:
                    self._check_first_byte(first)  # no doomed packet is collected
                    self._needed = end - position
                    break
                packet = self._packet(first, data, start, end)
                if not minimal and self.protocol_version == 5:
                    raise malformed("the Remaining Length is not minimal [MQTT-1.5.5-1]")
                items.append(packet)
                position = end
        except WireError as error:
            self._failed = True
            items.append(self._located(first, error))
            return items
        if position < size:
            self._buffer += data[position:]
        return items

    def _located(self, first: int, error: WireError) -> WireError:
        if error.protocol_version is None:
            error.protocol_version = self.protocol_version
        if first >= 0x10:
            error.packet_type = PacketType(first >> 4)
        # The frames behind it would keep the bytes alive for as long as the error is kept.
        error.__context__ = None
        return error.with_traceback(None)

    def _packet(self, first: int, data: bytes, start: int, end: int) -> Packet:
        version = self.protocol_version
        kind = first >> 4
        if kind == 3 and self._connected:
            return read_publish(first, data, start, end, version, self._aliases)
        # The most frequent packet of a subscriber, and of a publisher: an ack without a code.
        if end - start == 2 and self._connected:
            acknowledgement = PLAIN_ACKS.get(first)
            if acknowledgement is not None:
                packet_id = data[start] << 8 | data[start + 1]
                if packet_id == 0:
                    raise protocol_error("packet identifier 0")
                return acknowledgement(packet_id)
        self._check_first_byte(first)
        if kind == PacketType.CONNECT:
            return self._connect(data, start, end)
        assert version is not None
        packet = READERS[kind](first, data[start:end], version, self._is_server)
        if type(packet) is Auth and self._saw_connect:
            method = packet.authentication_method
            if self._authentication_method is None or method != self._authentication_method:
                # MQTT-4.12.0-5, MQTT-4.12.0-7
                raise protocol_error("AUTH names a method that CONNECT did not [MQTT-4.12.0-5]")
        return packet

    def _check_first_byte(self, first: int) -> None:
        kind, flags = first >> 4, first & 0x0F
        if kind == 0 or (kind == PacketType.AUTH and self.protocol_version in (3, 4)):
            raise malformed(f"packet type {kind} is reserved")
        if not self._connected and kind != PacketType.CONNECT:
            raise protocol_error("the first packet is not CONNECT [MQTT-3.1.0-1]")
        if kind not in (FROM_CLIENT if self._is_server else FROM_SERVER):
            raise protocol_error(f"{PacketType(kind).name} came from the wrong side")
        if kind == PacketType.CONNECT and self._connected:
            raise protocol_error("a second CONNECT [MQTT-3.1.0-2]")
        if kind == PacketType.PUBLISH:
            return
        expected = FLAGS[PacketType(kind)]
        if self.protocol_version == 3 and expected:
            flags &= 0b0111  # MQTT 3.1 sets DUP where PUBREL, (UN)SUBSCRIBE are sent again
        if flags != expected:
            raise malformed("reserved flags are set [MQTT-2.1.3-1]")

    def _connect(self, data: bytes, start: int, end: int) -> Connect:
        name, position = read_text(data, start, end)
        if position >= end:
            raise malformed("CONNECT ends before the protocol level")
        level = data[position]
        version = _PROTOCOL_VERSIONS.get((name, level))
        if version is None:
            # MQTT-3.1.2-1, MQTT-3.1.2-2: what speaks no MQTT at all gets no answer
            answer = (5 if level > 5 else 4) if name in ("MQTT", "MQIsdp") else None
            raise WireError(
                ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
                f"protocol {name!r} level {level} is not supported",
                protocol_version=answer,
            )
        self.protocol_version = version
        packet = read_connect(data[position + 1 : end], version)
        self._connected = self._saw_connect = True
        self._authentication_method = packet.authentication_method
        return packet


def _read_remaining_length(data: bytes, position: int, size: int) -> tuple[int, int, bool] | None:
    """A Remaining Length of two bytes or more, its end, and whether it is minimal.

    MQTT 3.x does not demand the fewest bytes, and small clients are known to pad.
    """
    number = 0
    for shift in (0, 7, 14, 21):
        if position >= size:
            return None
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position, byte != 0
    raise malformed("the Remaining Length has more than four bytes")
