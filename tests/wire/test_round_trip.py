"""What is encoded decodes to the same, whole, in pieces and damaged."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_sessions import wire
from mqtt_sessions.messages import Message

from .strategies import TOPIC_ALIAS_MAXIMUM, VERSIONS, connects, from_client, from_server

both_ways = st.sampled_from(VERSIONS).flatmap(
    lambda version: st.one_of(
        st.tuples(st.just(version), st.just(wire.Role.SERVER), from_client(version)),
        st.tuples(st.just(version), st.just(wire.Role.CLIENT), from_server(version)),
    )
)
streams = st.sampled_from(VERSIONS).flatmap(
    lambda version: st.one_of(
        st.tuples(
            st.just(version),
            st.just(wire.Role.SERVER),
            st.lists(from_client(version), min_size=1, max_size=5),
        ),
        st.tuples(
            st.just(version),
            st.just(wire.Role.CLIENT),
            st.lists(from_server(version), min_size=1, max_size=5),
        ),
    )
)


def decoder(role: wire.Role, version: int | None) -> wire.Decoder:
    return wire.Decoder(role, version, topic_alias_maximum=TOPIC_ALIAS_MAXIMUM)


@given(both_ways)
def test_every_packet_survives_encoding_and_decoding(case: tuple[int, wire.Role, Any]) -> None:
    version, role, packet = case
    assert decoder(role, version).feed(wire.encode(packet, version)) == [packet]


@given(st.sampled_from(VERSIONS).flatmap(connects))
def test_connect_tells_the_server_its_version(packet: wire.Connect) -> None:
    server = decoder(wire.Role.SERVER, None)
    assert server.protocol_version is None
    assert server.feed(wire.encode(packet, packet.protocol_version)) == [packet]
    assert server.protocol_version == packet.protocol_version


@given(streams)
def test_byte_by_byte_equals_whole(case: tuple[int, wire.Role, list[Any]]) -> None:
    version, role, packets = case
    data = b"".join(wire.encode(packet, version) for packet in packets)
    whole = decoder(role, version)
    assert whole.feed(data) == packets
    assert whole.buffered == 0
    pieces = decoder(role, version)
    assert [item for byte in data for item in pieces.feed(bytes((byte,)))] == packets
    assert pieces.buffered == 0


@given(streams, st.data())
def test_random_pieces_equal_whole(case: tuple[int, wire.Role, list[Any]], data: Any) -> None:
    version, role, packets = case
    stream = b"".join(wire.encode(packet, version) for packet in packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[low:high] for low, high in pairwise([0, *cuts, len(stream)])]
    target = decoder(role, version)
    kinds = (bytes, bytearray, memoryview)
    items = []
    for piece in pieces:
        items += target.feed(data.draw(st.sampled_from(kinds))(piece))
    assert items == packets


def declared_size(data: bytes) -> int | None:
    """The size of the packet that `data` begins with, None if its header is incomplete."""
    length = shift = 0
    for index, byte in enumerate(data[1:5]):
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return length + index + 2
        shift += 7
    return None


mutations = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 400), st.integers(0, 255)),
        st.tuples(st.just("insert"), st.integers(0, 400), st.integers(0, 255)),
        st.tuples(st.just("delete"), st.integers(0, 400), st.integers(1, 5)),
    ),
    min_size=1,
    max_size=3,
)


def mutated(data: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    damaged = bytearray(data)
    for change, place, number in changes:
        at = place % (len(damaged) + 1)
        if change == "set":
            damaged[at : at + 1] = bytes((number,))
        elif change == "insert":
            damaged.insert(at, number)
        else:
            del damaged[at : at + number]
    return bytes(damaged)


@pytest.mark.unmeasured
@given(streams, st.booleans(), mutations, st.integers(1, 50))
def test_damaged_bytes_yield_packets_and_at_most_one_error(
    case: tuple[int, wire.Role, list[Any]],
    with_connect: bool,
    changes: list[tuple[str, int, int]],
    step: int,
) -> None:
    version, role, packets = case
    data = b"".join(wire.encode(packet, version) for packet in packets)
    target = wire.Decoder(role, version, maximum_packet_size=1000, topic_alias_maximum=5)
    if with_connect and role is wire.Role.SERVER:
        target = wire.Decoder(role, maximum_packet_size=1000)
        data = wire.encode(wire.Connect("c", version), version) + data
    damaged = mutated(data, changes)
    items: list[wire.Packet | wire.WireError] = []
    for start in range(0, len(damaged), step):
        assert not (items and isinstance(items[-1], wire.WireError) and target.buffered)
        items += target.feed(damaged[start : start + step])
        held = bytes(target._buffer)
        size = declared_size(held)
        assert len(held) < (5 if size is None else min(size, 1000))
    assert all(not isinstance(item, wire.WireError) for item in items[:-1])
    is_known = role is wire.Role.SERVER and not with_connect
    for item in items:
        is_known = is_known or isinstance(item, wire.Connect)
        if is_known:  # whatever a server hears from a client that it knows is an event
            wire.to_event(item, "connection")


@given(st.sampled_from(VERSIONS).flatmap(connects), mutations)
def test_a_damaged_connect_can_be_refused(
    packet: wire.Connect, changes: list[tuple[str, int, int]]
) -> None:
    data = mutated(wire.encode(packet, packet.protocol_version), changes)
    for item in wire.Decoder(wire.Role.SERVER).feed(data):
        if isinstance(item, wire.WireError):
            wire.refuse_connect(item.protocol_version, item.reason_code)
        else:
            wire.to_event(item, "connection")


@given(st.binary(max_size=60), st.sampled_from([None, *VERSIONS]))
def test_noise_raises_nothing(data: bytes, version: int | None) -> None:
    wire.Decoder(wire.Role.SERVER, version).feed(data)
    if version is not None:
        wire.Decoder(wire.Role.CLIENT, version).feed(data)


@pytest.mark.parametrize("size", [3, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_every_width_of_the_remaining_length(size: int) -> None:
    packet = wire.Publish(Message("t", b"x" * (size - 3)))
    data = wire.encode(packet, 4)
    target = wire.Decoder(wire.Role.SERVER, 4)
    assert target.feed(data[:2]) + target.feed(data[2:4]) + target.feed(data[4:]) == [packet]
