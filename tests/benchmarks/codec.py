"""Bytes to PUBLISH and PUBACK and back, beside zmqtt 0.2.5 and amqtt where installed.

PUBLISH at QoS 1 with a topic of 21 bytes, a payload of 100 and no property; PUBACK with no reason
code but success. Each encodes from values that are made in the loop, and decodes to values; ours
are the store's own, so from actions and to events. Decoders get one packet per call, as most reads
bring it. amqtt knows MQTT 3.1.1 only; zmqtt's codec is private to it, which is why the version is
fixed.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from functools import partial

from mqtt_sessions import (
    Delivery,
    Event,
    Message,
    ReasonCode,
    SendPuback,
    SendPublish,
)

from .timing import Bench, Figure, Scale, Skipped, clock, interleave, median, steady_heap
from .worlds import PAYLOAD

__all__ = ["BENCHES"]

_TOPIC = "sensors/7/temperature"
_HEAD = b"\x00\x15" + _TOPIC.encode() + b"\x00\x07"
_PUBLISH = {
    "v311": b"\x32\x7d" + _HEAD + PAYLOAD,
    "v5": b"\x32\x7e" + _HEAD + b"\x00" + PAYLOAD,
}
_PUBACK = b"\x40\x02\x00\x07"
_VERSIONS = ("v311", "v5")
_WORK = ("publish_encode", "publish_decode", "puback_encode", "puback_decode")

Round = Callable[[int], float]
"""So many packets; seconds for each."""


def _rounds(once: Callable[[], object], packets_at_once: int = 1) -> Round:
    def run(packets: int) -> float:
        times = range(max(packets // packets_at_once, 1))
        began = clock()
        for _ in times:
            once()
        return (clock() - began) / (len(times) * packets_at_once)

    return run


def _ours(version: str) -> dict[str, Round]:
    from mqtt_sessions import wire

    level = {"v311": 4, "v5": 5}[version]
    encoder = wire.Encoder(level, wire.PublishCache())
    decoder = wire.Decoder(wire.Role.SERVER, level)

    def publish_encode() -> bytes:
        # a new delivery each time, so that the cache is paid for and of no use
        delivery = Delivery(Message(_TOPIC, PAYLOAD, 1), 1)
        return encoder.encode(SendPublish(1, delivery, 7, False, None))

    def publish_encode_fanout10() -> bytes:
        delivery = Delivery(Message(_TOPIC, PAYLOAD, 1), 1)
        for _ in range(10):
            packet = encoder.encode(SendPublish(1, delivery, 7, False, None))
        return packet

    def puback_encode() -> bytes:
        return encoder.encode(SendPuback(1, 7, ReasonCode.SUCCESS))

    def decode(data: bytes) -> list[Event]:
        return [wire.to_event(packet, 1) for packet in decoder.feed(data)]

    publish = _PUBLISH[version]
    assert publish_encode() == publish_encode_fanout10() == publish
    assert puback_encode() == _PUBACK
    assert decode(publish)[0].message.payload == PAYLOAD
    assert decode(_PUBACK)[0].packet_id == 7
    return {
        "publish_encode": _rounds(publish_encode),
        "publish_encode_fanout10": _rounds(publish_encode_fanout10, packets_at_once=10),
        "publish_decode": _rounds(partial(decode, publish)),
        "puback_encode": _rounds(puback_encode),
        "puback_decode": _rounds(partial(decode, _PUBACK)),
    }


def _zmqtt(version: str) -> dict[str, Round]:
    try:
        from zmqtt._internal.packets.codec import encode
        from zmqtt._internal.packets.publish import PubAck, Publish
        from zmqtt._internal.packets.reader import PacketBuffer
        from zmqtt._internal.types.qos import QoS
    except ImportError as missing:
        raise Skipped("zmqtt 0.2.5 is not installed") from missing
    spoken = {"v311": "3.1.1", "v5": "5.0"}[version]
    qos = QoS.AT_LEAST_ONCE
    buffer = PacketBuffer(spoken)

    def publish_encode() -> bytes:
        packet = Publish(
            topic=_TOPIC, payload=PAYLOAD, qos=qos, retain=False, dup=False, packet_id=7
        )
        return encode(packet, version=spoken)

    def puback_encode() -> bytes:
        return encode(PubAck(packet_id=7), version=spoken)

    def decode(data: bytes) -> list[object]:
        buffer.feed(data)
        return list(buffer)

    publish = _PUBLISH[version]
    assert publish_encode() == publish
    assert puback_encode() == _PUBACK
    assert decode(publish)[0].payload == PAYLOAD
    assert decode(_PUBACK)[0].packet_id == 7
    return {
        "publish_encode": _rounds(publish_encode),
        "publish_decode": _rounds(partial(decode, publish)),
        "puback_encode": _rounds(puback_encode),
        "puback_decode": _rounds(partial(decode, _PUBACK)),
    }


def _amqtt(version: str) -> dict[str, Round]:
    if version != "v311":
        raise Skipped("amqtt has no MQTT 5.0")
    try:
        from amqtt.adapters import BufferReader
        from amqtt.mqtt import packet_class
        from amqtt.mqtt.packet import MQTTFixedHeader
        from amqtt.mqtt.puback import PubackPacket
        from amqtt.mqtt.publish import PublishPacket
    except ImportError as missing:
        raise Skipped("amqtt is not installed") from missing

    def publish_encode() -> bytes:
        return PublishPacket.build(_TOPIC, PAYLOAD, 7, False, 1, False).to_bytes()

    def puback_encode() -> bytes:
        return PubackPacket.build(7).to_bytes()

    async def decode(data: bytes) -> object:
        reader = BufferReader(data)
        header = await MQTTFixedHeader.from_stream(reader)
        return await packet_class(header).from_stream(reader, fixed_header=header)

    async def decode_all(data: bytes, packets: int) -> float:
        began = clock()
        for _ in range(packets):
            await decode(data)
        return (clock() - began) / packets

    def decoding(data: bytes) -> Round:
        return lambda packets: asyncio.run(decode_all(data, packets))

    publish = _PUBLISH[version]
    assert publish_encode() == publish
    assert puback_encode() == _PUBACK
    assert asyncio.run(decode(publish)).data == PAYLOAD
    assert asyncio.run(decode(_PUBACK)).packet_id == 7
    return {
        "publish_encode": _rounds(publish_encode),
        "publish_decode": decoding(publish),
        "puback_encode": _rounds(puback_encode),
        "puback_decode": decoding(_PUBACK),
    }


def _codec(
    owner: str, rounds_of: Callable[[str], dict[str, Round]], version: str, scale: Scale
) -> Iterator[Figure]:
    packets = scale.count(4_000, least=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, and none of our business
        work = rounds_of(version)
        with steady_heap():
            samples = interleave(
                [partial(run, packets) for run in work.values()], max(scale.rounds // 2, 1)
            )
    for name, taken in zip(work, samples, strict=True):
        yield Figure(f"{owner}_{name}_{version}_us", median(taken) * 1e6, "us")


_OWNERS: tuple[tuple[str, Callable[[str], dict[str, Round]]], ...] = (
    ("wire", _ours),
    ("zmqtt", _zmqtt),
    ("amqtt", _amqtt),
)


def _names(owner: str, version: str) -> tuple[str, ...]:
    work = (*_WORK, "publish_encode_fanout10") if owner == "wire" else _WORK
    return tuple(f"{owner}_{name}_{version}_us" for name in work)


BENCHES = tuple(
    Bench(_names(owner, version), partial(_codec, owner, rounds_of, version))
    for owner, rounds_of in _OWNERS
    for version in _VERSIONS
    if (owner, version) != ("amqtt", "v5")
)
