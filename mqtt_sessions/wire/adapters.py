"""Between packets and the session layer: packets to events, actions to bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, overload

from mqtt_sessions.actions import (
    SendConnack,
    SendDisconnect,
    SendPingresp,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SendUnsuback,
)
from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.events import (
    ClientConnected,
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
from mqtt_sessions.messages import Delivery
from mqtt_sessions.topic_aliases import OutboundAliases
from mqtt_sessions.wire.encoding import (
    BYTES,
    encode,
    encode_ack,
    publish_properties,
    remaining_length,
    write_topic_name,
)
from mqtt_sessions.wire.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    WireError,
)

__all__ = ["Encoder", "PublishCache", "SendAction", "to_event"]

SendAction = (
    SendConnack
    | SendPublish
    | SendPuback
    | SendPubrec
    | SendPubrel
    | SendPubcomp
    | SendSuback
    | SendUnsuback
    | SendPingresp
    | SendDisconnect
)
"""The actions that put a packet on a connection."""


# ---------------------------------------------------------------- packets to events


@overload
def to_event(item: Connect, connection: Hashable) -> ClientConnected: ...
@overload
def to_event(item: Publish, connection: Hashable) -> PublishReceived: ...
@overload
def to_event(item: Puback, connection: Hashable) -> PubackReceived: ...
@overload
def to_event(item: Pubrec, connection: Hashable) -> PubrecReceived: ...
@overload
def to_event(item: Pubrel, connection: Hashable) -> PubrelReceived: ...
@overload
def to_event(item: Pubcomp, connection: Hashable) -> PubcompReceived: ...
@overload
def to_event(item: Subscribe, connection: Hashable) -> SubscribeReceived: ...
@overload
def to_event(item: Unsubscribe, connection: Hashable) -> UnsubscribeReceived: ...
@overload
def to_event(item: Pingreq | Auth, connection: Hashable) -> PingReceived: ...
@overload
def to_event(item: Disconnect, connection: Hashable) -> DisconnectReceived: ...
@overload
def to_event(item: WireError, connection: Hashable) -> MalformedPacketReceived: ...
@overload
def to_event(item: Packet | WireError, connection: Hashable) -> Event: ...
def to_event(item: Packet | WireError, connection: Hashable) -> Event:
    """The event that a server's decoded packet is, or its decoder's error.

    What CONNECT says beyond `ClientConnected` (user name, password, topic alias maximum, …) is
    read from the packet, and what only the host knows is added with `attrs.evolve`: the assigned
    client id and the principal there, a refusal in `PublishReceived` or `SubscribeReceived`.

    Args:
        item: A packet that a client sends; or a `WireError` of a connection that the session
            layer knows.
        connection: The host's name for the network connection.

    Raises:
        InvalidValue: A packet that only a server sends.

    *Cost* O(1).
    """
    make = _EVENTS.get(type(item))
    if make is None:
        raise InvalidValue(f"{type(item).__name__} does not come from a client")
    return make(item, connection)


def _client_connected(packet: Connect, connection: Hashable) -> Event:
    return ClientConnected(
        connection,
        packet.client_id,
        packet.protocol_version,
        packet.clean_start,
        packet.session_expiry_interval,
        packet.receive_maximum,
        packet.maximum_packet_size,
        packet.keep_alive,
        packet.will,
    )


def _publish_received(packet: Publish, connection: Hashable) -> Event:
    return PublishReceived(
        connection, packet.message, packet.packet_id, packet.dup, None, packet.subscription_ids
    )


def _puback_received(packet: Puback, connection: Hashable) -> Event:
    return PubackReceived(connection, packet.packet_id, packet.reason_code)


def _pubrec_received(packet: Pubrec, connection: Hashable) -> Event:
    return PubrecReceived(connection, packet.packet_id, packet.reason_code)


def _pubrel_received(packet: Pubrel, connection: Hashable) -> Event:
    return PubrelReceived(connection, packet.packet_id, packet.reason_code)


def _pubcomp_received(packet: Pubcomp, connection: Hashable) -> Event:
    return PubcompReceived(connection, packet.packet_id, packet.reason_code)


def _subscribe_received(packet: Subscribe, connection: Hashable) -> Event:
    return SubscribeReceived(connection, packet.packet_id, packet.subscriptions)


def _unsubscribe_received(packet: Unsubscribe, connection: Hashable) -> Event:
    return UnsubscribeReceived(connection, packet.packet_id, packet.topic_filters)


def _ping_received(packet: Pingreq, connection: Hashable) -> Event:
    return PingReceived(connection)


def _auth_received(packet: Auth, connection: Hashable) -> Event:
    # NN-5.5: any packet is a sign of life
    return PingReceived(connection, answer=False)


def _disconnect_received(packet: Disconnect, connection: Hashable) -> Event:
    return DisconnectReceived(connection, packet.reason_code, packet.session_expiry_interval)


def _error_received(error: WireError, connection: Hashable) -> Event:
    return MalformedPacketReceived(connection, error.reason_code)


_EVENTS: dict[type[Packet | WireError], Callable[[Any, Hashable], Event]] = {
    Connect: _client_connected,
    Publish: _publish_received,
    Puback: _puback_received,
    Pubrec: _pubrec_received,
    Pubrel: _pubrel_received,
    Pubcomp: _pubcomp_received,
    Subscribe: _subscribe_received,
    Unsubscribe: _unsubscribe_received,
    Pingreq: _ping_received,
    Auth: _auth_received,
    Disconnect: _disconnect_received,
    WireError: _error_received,
}


# ---------------------------------------------------------------- actions to bytes


class _EncodedPublish:
    """A PUBLISH without packet identifier, DUP and topic alias: what its receivers share."""

    __slots__ = ("_after", "_before", "_first", "_payload", "_properties", "_topic", "delivery")

    def __init__(self, delivery: Delivery, is_5: bool, expiry: int | None) -> None:
        message, qos = delivery.message, delivery.qos
        if qos not in (0, 1, 2):
            raise InvalidValue(f"Delivery.qos must be 0, 1 or 2, not {qos!r}")
        self.delivery = delivery  # keeps the object alive whose identity is the cache's key
        self._first = 0x30 | qos << 1 | (1 if delivery.retain else 0)
        self._topic = write_topic_name(message)
        self._properties = b""
        self._payload = message.payload
        after = self._payload
        if is_5:
            self._properties = publish_properties(message, expiry, delivery.subscription_ids)
            after = remaining_length(len(self._properties)) + self._properties + after
        length = len(self._topic) + len(after) + (2 if qos else 0)
        self._before = BYTES[self._first] + remaining_length(length) + self._topic
        if qos:
            self._after = after
        else:
            self._after = self._before + after  # complete: all receivers get the same object

    @property
    def size(self) -> int:
        """Bytes that this object keeps alive, about."""
        return len(self._after) + len(self._payload) + 2 * len(self._properties)

    def packet(self, packet_id: int | None, dup: bool) -> bytes:
        """The packet, with the full topic name."""
        if self._first & 0x06 == 0:
            _check_qos_0(packet_id, dup)
            return self._after
        if dup:
            first = BYTES[self._first | 8]
            return first + self._before[1:] + _two_bytes(packet_id) + self._after
        return self._before + _two_bytes(packet_id) + self._after

    def aliased(self, packet_id: int | None, dup: bool, alias: int, send_topic: bool) -> bytes:
        """The packet with a topic alias, and with the topic name or without."""
        first, packet_id_bytes = self._first, b""
        if first & 0x06 == 0:
            _check_qos_0(packet_id, dup)
        else:
            packet_id_bytes = _two_bytes(packet_id)
        if dup:
            first |= 8
        topic = self._topic if send_topic else b"\0\0"
        properties = b"\x23" + alias.to_bytes(2, "big") + self._properties
        head = topic + packet_id_bytes + remaining_length(len(properties)) + properties
        length = remaining_length(len(head) + len(self._payload))
        return BYTES[first] + length + head + self._payload


def _two_bytes(packet_id: int | None) -> bytes:
    if packet_id is None or not 1 <= packet_id <= 65_535:
        raise InvalidValue(f"SendPublish.packet_id must be 1 to 65535, not {packet_id!r}")
    return packet_id.to_bytes(2, "big")


def _check_qos_0(packet_id: int | None, dup: bool) -> None:
    if packet_id is not None or dup:
        raise InvalidValue("SendPublish has no packet_id and no dup at QoS 0 [MQTT-2.2.1-2]")


class PublishCache:
    """Encoded PUBLISH packets, so that many receivers of one delivery share the work.

    One for a broker, handed to all its encoders. Deliveries are told apart by identity: the store
    shares one object among all receivers of the same combination. When it is full it is emptied,
    for it earns its keep within one publish, and is of no use to the next.

    Args:
        maximum_entries: Packets kept.
        maximum_bytes: Bytes kept; a larger packet is never kept.

    *Bound* `maximum_entries` and `maximum_bytes`.
    """

    __slots__ = ("_bytes", "_entries", "_maximum_bytes", "_maximum_entries")

    def __init__(self, maximum_entries: int = 64, maximum_bytes: int = 1_048_576) -> None:
        if maximum_entries < 1 or maximum_bytes < 0:
            raise InvalidValue("PublishCache needs room for 1 entry and 0 bytes at least")
        self._maximum_entries = maximum_entries
        self._maximum_bytes = maximum_bytes
        self._entries: dict[tuple[int, bool, int | None], _EncodedPublish] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Forget everything; a host that wants payloads freed at once calls it when idle."""
        self._entries.clear()
        self._bytes = 0

    def encoded(self, delivery: Delivery, is_5: bool, expiry: int | None) -> _EncodedPublish:
        """The shared part of a packet, for `Encoder`.

        *Cost* O(1) if it is kept, else O(bytes).
        """
        key = (id(delivery), is_5, expiry)
        found = self._entries.get(key)
        if found is not None:
            return found
        made = _EncodedPublish(delivery, is_5, expiry)
        size = made.size
        if size <= self._maximum_bytes:
            if (
                len(self._entries) == self._maximum_entries
                or self._bytes + size > self._maximum_bytes
            ):
                self.clear()
            self._entries[key] = made
            self._bytes += size
        return made


class Encoder:
    """Encodes what the session layer sends to one client.

    A topic alias is given when its packet is encoded, so the bytes of each call have to be
    written in the order of the calls; a host that drops some must close the connection.

    Args:
        protocol_version: Of the connection, as CONNECT had it: 3, 4 or 5.
        cache: The broker's; None: nothing is shared.
        topic_alias_maximum: Aliases to use, at most what CONNECT announced [MQTT-3.1.2-26]. A
            bound of the host's own keeps memory small: each alias holds a topic name.
        maximum_packet_size: What CONNECT announced: an alias is only given where it fits in.

    Raises:
        InvalidValue: A bad argument.

    *Bound* `topic_alias_maximum` topic names.

    Spec: MQTT 5.0 §3.3.2.3.4.
    """

    __slots__ = ("_aliases", "_cache", "_is_5", "_maximum_packet_size", "_protocol_version")

    def __init__(
        self,
        protocol_version: int,
        cache: PublishCache | None = None,
        *,
        topic_alias_maximum: int = 0,
        maximum_packet_size: int | None = None,
    ) -> None:
        if protocol_version not in (3, 4, 5):
            raise InvalidValue(
                f"Encoder.protocol_version must be 3, 4 or 5, not {protocol_version!r}"
            )
        self._protocol_version = protocol_version
        self._is_5 = protocol_version == 5
        self._cache = cache
        self._maximum_packet_size = maximum_packet_size
        aliases = OutboundAliases(topic_alias_maximum)
        self._aliases = aliases if self._is_5 and topic_alias_maximum else None

    def encode(self, action: SendAction | Packet) -> bytes:
        """The bytes of an action, or of a packet that the host sends on its own (AUTH).

        Raises:
            InvalidValue: A value that the standard forbids, or an action that sends nothing.

        *Cost* O(bytes).
        """
        if type(action) is SendPublish:
            return self._publish(action)
        sent: Any = action
        kind = _ACKS.get(type(action))
        if kind is not None:
            return encode_ack(kind, sent.packet_id, sent.reason_code, self._protocol_version)
        translate = _PACKETS.get(type(action))
        packet = sent if translate is None else translate(action)
        return encode(packet, self._protocol_version)

    def _publish(self, action: SendPublish) -> bytes:
        is_5 = self._is_5
        expiry = action.message_expiry_interval if is_5 else None
        if self._cache is None:
            encoded = _EncodedPublish(action.delivery, is_5, expiry)
        else:
            encoded = self._cache.encoded(action.delivery, is_5, expiry)
        if self._aliases is None:
            return encoded.packet(action.packet_id, action.dup)
        topic_name = action.delivery.message.topic_name
        alias, send_topic = self._aliases.plan(topic_name)
        if alias is None:
            return encoded.packet(action.packet_id, action.dup)
        packet = encoded.aliased(action.packet_id, action.dup, alias, send_topic)
        if self._maximum_packet_size is not None and len(packet) > self._maximum_packet_size:
            # Three bytes more than `size_of` said. MQTT-3.1.2-24 before saving bytes.
            return encoded.packet(action.packet_id, action.dup)
        self._aliases.sent(topic_name, alias)
        return packet


_ACKS: dict[type[object], PacketType] = {
    SendPuback: PacketType.PUBACK,
    SendPubrec: PacketType.PUBREC,
    SendPubrel: PacketType.PUBREL,
    SendPubcomp: PacketType.PUBCOMP,
}


def _connack(action: SendConnack) -> Packet:
    return Connack(
        session_present=action.session_present,
        reason_code=action.reason_code,
        session_expiry_interval=action.session_expiry_interval,
        receive_maximum=action.receive_maximum,
        maximum_qos=action.maximum_qos,
        retain_available=action.retain_available,
        maximum_packet_size=action.maximum_packet_size,
        assigned_client_identifier=action.assigned_client_identifier,
        topic_alias_maximum=action.topic_alias_maximum,
        server_keep_alive=action.server_keep_alive,
        shared_subscription_available=action.shared_subscription_available,
    )


def _suback(action: SendSuback) -> Packet:
    return Suback(action.packet_id, action.reason_codes)


def _unsuback(action: SendUnsuback) -> Packet:
    return Unsuback(action.packet_id, action.reason_codes)


def _pingresp(action: SendPingresp) -> Packet:
    return Pingresp()


def _disconnect(action: SendDisconnect) -> Packet:
    return Disconnect(action.reason_code)


_PACKETS: dict[type[object], Callable[[Any], Packet]] = {
    SendConnack: _connack,
    SendSuback: _suback,
    SendUnsuback: _unsuback,
    SendPingresp: _pingresp,
    SendDisconnect: _disconnect,
}
