"""Fuzzing: bytes that no client should send hurt nobody but the one who sends them.

A corpus of every kind of packet is damaged at random (seeded: a failure names its seed). CI tries
some thousands of streams, `MQTT_SESSIONS_NIGHTLY=1` a hundred times as many. The checks are
functions of a decoder, and each is shown to fail for a decoder that is broken on purpose.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Hashable, Iterator
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtt_sessions import (
    ClientConnected,
    CloseConnection,
    ConnectionLost,
    ExpiryPolicy,
    InvalidState,
    InvalidValue,
    MalformedPacketReceived,
    Message,
    MessagePublished,
    Outcome,
    PubrelReceived,
    ReasonCode,
    SessionLimits,
    SessionStore,
    SubscribeReceived,
    Subscription,
    Will,
    wire,
)
from mqtt_sessions.reason_codes import ConnectReturnCode
from mqtt_sessions.topics import is_valid_filter, is_valid_topic
from mqtt_sessions.wire.packets import PacketType
from mqtt_sessions.wire.tables import REASON_CODES

from .strategies import TOPIC_ALIAS_MAXIMUM, VERSIONS, from_client, from_server

SERVER, CLIENT = wire.Role.SERVER, wire.Role.CLIENT
Items = list[Any]
MakeDecoder = Callable[[wire.Role, int | None], wire.Decoder]

# What MQTT 5.0 §4.13 lets a receiver close with for bytes that are wrong: table 2-6, DISCONNECT and
# CONNACK. 0x84 is for CONNECT alone.
CLOSING = frozenset(map(ReasonCode, (0x81, 0x82, 0x84, 0x90, 0x94, 0x95, 0x99)))
LARGEST = 2000

# ---------------------------------------------------------------- corpus

PAIRS = (("name", "value"), ("é", ""))
TEXTS = {"reason_string": "why", "user_properties": PAIRS}


def _connects(version: int) -> list[wire.Packet]:
    will = Will(Message("wills/m", b"gone", 1, True), 5 if version == 5 else 0)
    plain = wire.Connect("mallory", version)
    full = wire.Connect("mallory", version, False, 60, will, "user", b"password")
    if version == 5:
        full = attrs.evolve(
            full,
            session_expiry_interval=60,
            receive_maximum=3,
            maximum_packet_size=LARGEST,
            topic_alias_maximum=5,
            request_problem_information=True,
            user_properties=PAIRS,
            authentication_method="m",
            authentication_data=b"data",
        )
    return [plain, full]


def _publishes(version: int) -> list[wire.Packet]:
    properties: dict[str, Any] = {}
    if version == 5:
        properties = {
            "message_expiry_interval": 9,
            "payload_format_indicator": 1,
            "content_type": "text",
            "response_topic": "answers",
            "correlation_data": b"123",
            "user_properties": PAIRS,
        }
    found: list[wire.Packet] = [
        wire.Publish(Message("a", b"0")),
        wire.Publish(Message("a/b", b"1", 1, True), 7),
        wire.Publish(Message("a", b"2" * 140, 2, **properties), 8, True),
        wire.Publish(Message("a", b"", 2, True), 9),
    ]
    if version == 5:
        found.append(wire.Publish(Message("a/b/c", b"3"), topic_alias=2))
    return found


def _acks(version: int) -> list[wire.Packet]:
    kinds = (wire.Puback, wire.Pubrec, wire.Pubrel, wire.Pubcomp)
    found: list[wire.Packet] = [kind(number) for kind in kinds for number in (1, 8)]
    if version == 5:
        found += [wire.Puback(7, ReasonCode.QUOTA_EXCEEDED, **TEXTS), wire.Pubrec(8, 0x80)]
        found += [wire.Pubrel(9, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND, **TEXTS)]
    return found


def corpus(role: wire.Role, version: int) -> list[bytes]:
    """Packets of every kind that the side which decodes may get, behind a CONNECT if it is new."""
    code, pairs = ReasonCode.SUCCESS, PAIRS if version == 5 else ()
    packets = _publishes(version) + _acks(version)
    if role is SERVER:
        filters = (Subscription("a/+", 2), Subscription("#", 1))
        packets += [
            wire.Subscribe(3, filters, pairs),
            wire.Unsubscribe(4, ("a/+", "x"), pairs),
            wire.Pingreq(),
            wire.Disconnect(),
        ]
        if version == 5:
            options = Subscription("a", 1, True, True, 2, 200_000)
            packets += [wire.Subscribe(5, (options,)), wire.Disconnect(4, 100, **TEXTS)]
            packets += [wire.Auth(0x18, "m", b"data", **TEXTS)]
    else:
        accepted = wire.Connack(False, code if version == 5 else ConnectReturnCode.ACCEPTED)
        packets += [accepted, wire.Suback(3, (code, ReasonCode.GRANTED_QOS_2))]
        packets += [wire.Unsuback(4, (code,) if version == 5 else ()), wire.Pingresp()]
        if version == 5:
            publish = wire.Publish(Message("a"), subscription_ids=(1, 200_000))
            full = wire.Connack(
                True, code, 60, 9, 1, False, LARGEST, None, 5, "why", PAIRS, True, True, True, 7
            )
            packets += [publish, full, wire.Disconnect(0x8D, None, **TEXTS, server_reference="b")]
            packets += [wire.Auth(0x00, "m", b"data")]
    return [wire.encode(packet, version) for packet in packets]


# ---------------------------------------------------------------- damage


def damaged(random: Random, packets: list[bytes]) -> bytes:
    """A few packets with a few faults; sometimes none, sometimes nothing but noise."""
    if random.random() < 0.1:
        return random.randbytes(random.randrange(60))
    data = bytearray().join(random.choices(packets, k=random.choice((1, 1, 2, 4))))
    for _ in range(random.choice((0, 1, 1, 2, 5))):
        if not data:
            break
        at = random.randrange(len(data))
        match random.randrange(7):
            case 0:
                data[at] ^= 1 << random.randrange(8)
            case 1:
                data[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 2:
                del data[at:]
            case 3:
                del data[at : at + random.randrange(1, 6)]
            case 4:
                data[at:at] = random.randbytes(random.randrange(1, 6))
            case 5:  # a length that lies, by little: texts, properties, the packet itself
                data[at] = (data[at] + random.choice((-2, -1, 1, 2))) % 256
            case _:  # a length that lies, by much
                data[at : at + 2] = random.choice((b"\xff\xff", b"\xff\xff\xff\x7f", b"\0\0"))
    return bytes(data)


def cut(random: Random, data: bytes) -> Iterator[bytes]:
    """The same bytes in pieces."""
    most = random.choice((1, 3, 20, 200))
    while data:
        size = random.randint(1, most)
        yield data[:size]
        data = data[size:]


# ---------------------------------------------------------------- what holds of every decoder


def plain(role: wire.Role, version: int | None) -> wire.Decoder:
    return wire.Decoder(
        role, version, maximum_packet_size=LARGEST, topic_alias_maximum=TOPIC_ALIAS_MAXIMUM
    )


def told(items: Items) -> Items:
    """Items as values: an error is equal to another that says the same."""
    return [
        (item.reason_code, str(item), item.packet_type, item.protocol_version)
        if isinstance(item, wire.WireError)
        else item
        for item in items
    ]


def check_stream(
    make: MakeDecoder, role: wire.Role, version: int | None, data: bytes, random: Random
) -> Items:
    """Packets and at most one error, at the end, with a code to close with; however it is cut."""
    whole = make(role, version)
    items = whole.feed(data)
    assert all(not isinstance(item, wire.WireError) for item in items[:-1])
    if items and isinstance(items[-1], wire.WireError):
        assert type(items[-1].reason_code) is ReasonCode
        assert items[-1].reason_code in CLOSING
        assert whole.feed(b"\xc0\x00") == [], "nothing comes after an error"
        assert whole.buffered == 0, "the bytes of who is to go are not kept"
    pieces = make(role, version)
    found: Items = []
    for piece in cut(random, data):
        found += pieces.feed(piece)
        assert pieces.buffered < LARGEST
    assert told(found) == told(items)
    assert pieces.buffered == whole.buffered
    return items


def is_let_pass(packet: Any) -> bool:
    """Whether a packet is one that nobody may send, but that a decoder takes on purpose.

    The session answers ill-formed topics and filters; a DISCONNECT ends the connection whatever it
    says; and servers of MQTT 3.1, which has no code for it, are known to refuse a subscription
    with 0x80 all the same.
    """
    match packet:
        case wire.Publish(message):
            topics, filters = [message.topic_name, message.response_topic], []
        case wire.Connect(will=Will(message)):
            topics, filters = [message.topic_name, message.response_topic], []
        case wire.Subscribe(_, subscriptions):
            topics, filters = [], [each.topic_filter for each in subscriptions]
        case wire.Unsubscribe(_, filters):
            topics = []
        case wire.Disconnect(code):
            return code not in REASON_CODES[PacketType.DISCONNECT]
        case wire.Suback(_, codes):
            return ReasonCode.UNSPECIFIED_ERROR in codes
        case _:
            return False
    return any(topic is not None and not is_valid_topic(topic) for topic in topics) or not all(
        is_valid_filter(each) for each in filters
    )


def check_meaning(role: wire.Role, version: int, packet: Any) -> None:
    """What was understood can be said again, or is what the session is to answer."""
    try:
        data = wire.encode(packet, version)
    except InvalidValue:
        assert is_let_pass(packet), packet
        return
    if not isinstance(packet, wire.Connect):
        assert plain(role, version).feed(data) == [packet]
    elif len(data) <= LARGEST:
        assert plain(role, None).feed(data) == [packet]


def streams(rounds: int, seed: str) -> Iterator[tuple[wire.Role, int | None, int, bytes, Random]]:
    """Who decodes, the version it is told, the true version, the bytes, chance for the rest."""
    for role in (SERVER, CLIENT):
        for version in VERSIONS:
            packets = corpus(role, version)
            connects = [wire.encode(packet, version) for packet in _connects(version)]
            for number in range(rounds):
                random = Random(f"{seed} {role} {version} {number}")
                if role is SERVER and random.random() < 0.4:  # from the first byte on
                    first = random.choice(connects)
                    if random.random() < 0.5:
                        first = damaged(random, [first])
                    yield role, None, version, first + damaged(random, packets), random
                else:
                    yield role, version, version, damaged(random, packets), random


def fuzz_decoder(rounds: int, seed: str, make: MakeDecoder = plain) -> int:
    """Feed damaged streams to decoders; how many packets were understood all the same."""
    understood = 0
    for role, version, _, data, random in streams(rounds, seed):
        items = check_stream(make, role, version, data, random)
        spoken = version
        for item in items:
            if isinstance(item, wire.WireError):
                continue
            understood += 1
            if isinstance(item, wire.Connect):
                spoken = item.protocol_version
            assert spoken is not None
            check_meaning(role, spoken, item)
            if role is SERVER:
                wire.to_event(item, "connection")
    return understood


@pytest.mark.unmeasured
def test_damaged_streams_give_packets_and_at_most_one_error() -> None:
    assert fuzz_decoder(1500, "streams") > 3000


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(20))
def test_many_damaged_streams_give_packets_and_at_most_one_error(part: int) -> None:
    assert fuzz_decoder(6000, f"nightly {part}") > 10_000


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("role", [SERVER, CLIENT])
def test_every_cut_in_two_and_every_beginning(role: wire.Role, version: int) -> None:
    """The beginning of a good packet is no fault, and nothing comes of it before its end."""
    for data in corpus(role, version):
        whole = plain(role, version).feed(data)
        assert len(whole) == 1
        assert not isinstance(whole[0], wire.WireError)
        for at in range(1, len(data)):
            decoder = plain(role, version)
            assert decoder.feed(data[:at]) == []
            assert decoder.buffered == at
            assert decoder.feed(data[at:]) == whole
            assert decoder.buffered == 0


@pytest.mark.unmeasured
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("role", [SERVER, CLIENT])
def test_every_single_bit_flipped(role: wire.Role, version: int) -> None:
    random = Random("bits")
    for data in corpus(role, version):
        for at in range(min(len(data), 40) * 8):
            flipped = bytearray(data)
            flipped[at // 8] ^= 1 << at % 8
            check_stream(plain, role, version, bytes(flipped), random)


cases = st.sampled_from(VERSIONS).flatmap(
    lambda version: st.one_of(
        st.tuples(st.just(SERVER), st.just(version), st.lists(from_client(version), max_size=3)),
        st.tuples(st.just(CLIENT), st.just(version), st.lists(from_server(version), max_size=3)),
    )
)


@pytest.mark.unmeasured
@given(cases, st.integers(0, 1 << 32))
def test_any_packets_damaged(case: tuple[wire.Role, int, Items], seed: int) -> None:
    """The same for packets that Hypothesis thinks of."""
    role, version, packets = case
    random = Random(seed)
    data = damaged(random, [wire.encode(packet, version) for packet in packets] or [b"\xc0\0"])
    for item in check_stream(plain, role, version, data, random):
        if not isinstance(item, wire.WireError):
            check_meaning(role, version, item)


@given(st.binary(max_size=80), st.sampled_from([None, *VERSIONS]), st.integers(0, 1 << 32))
def test_any_bytes(data: bytes, version: int | None, seed: int) -> None:
    check_stream(plain, SERVER, version, data, Random(seed))
    if version is not None:
        check_stream(plain, CLIENT, version, data, Random(seed))


# ---------------------------------------------------------------- memory


def claims(role: wire.Role, version: int) -> Iterator[bytes]:
    """Packets of which some two bytes claim that much follows which does not."""
    huge = b"\xff\xff\xff\x7f"  # 268,435,455 as a Remaining Length or a length of properties
    for data in corpus(role, version):
        yield data[:1] + huge + data[2:]
        for at in range(1, len(data) - 1):
            yield data[:at] + b"\xff\xff" + data[at + 2 :]
            yield data[:at] + huge + data[at + 4 :]


def check_memory(make: MakeDecoder, role: wire.Role, version: int, data: bytes) -> None:
    """What is held grows with what has arrived, not with what is claimed.

    Other threads of the test run are counted too: what a decoder itself takes, it takes each time.
    """
    peaks = []
    for _ in range(3):
        decoder = make(role, version)
        tracemalloc.start()
        try:
            items = decoder.feed(data)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        if peaks[-1] < 20_000 + 20 * len(data):
            return
    raise AssertionError(f"{peaks} bytes for {len(data)}: {items!r}")


def unbounded(role: wire.Role, version: int | None) -> wire.Decoder:
    """As large as the protocol allows: nothing but the code itself keeps memory down."""
    return wire.Decoder(role, version, topic_alias_maximum=0xFFFF)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("role", [SERVER, CLIENT])
def test_no_claimed_length_takes_memory(role: wire.Role, version: int) -> None:
    for data in claims(role, version):
        check_memory(unbounded, role, version, data)


# ---------------------------------------------------------------- a store behind it


class Attack:
    """One hostile client at a time against a store, and a host that follows the guide.

    The victim's session holds a message in flight and one that waits, and must never notice.
    """

    def __init__(self, store: SessionStore | None = None) -> None:
        if store is None:
            store = SessionStore(
                ExpiryPolicy(default_session_expiry_interval=5),
                SessionLimits(maximum_queued_messages=5, maximum_inbound_qos2=3),
                size_of=wire.size_of,
            )
        self.store = store
        self.now = 1000.0
        self.replies = 0
        self.connection = 0
        self.feed(
            ClientConnected("victim", "victim", session_expiry_interval=9999, receive_maximum=1)
        )
        self.feed(SubscribeReceived("victim", 1, (Subscription("victims/own", 1),)))
        for payload in (b"in flight", b"waits"):
            self.feed(MessagePublished(Message("victims/own", payload, 1)))

    def feed(self, event: Any) -> Outcome:
        return self.store.handle(event, self.now)

    def state_of_victim(self) -> tuple[Hashable, ...]:
        view = self.store["victim"]
        return view.in_flight, view.queued(), view.subscriptions, view.connected, view.will

    def stream(self, data: bytes, random: Random) -> None:
        """A connection from its first byte to its end."""
        before = self.state_of_victim()
        self.connection += 1
        me = self.connection
        decoder = plain(SERVER, None)
        peer: tuple[wire.Encoder, wire.Decoder] | None = None
        over = False
        for piece in cut(random, data):
            for item in decoder.feed(piece):
                if over:
                    break
                if isinstance(item, wire.Connect):
                    event = wire.to_event(item, me)
                    if not item.client_id:
                        event = attrs.evolve(event, assigned_client_id=f"assigned{me}")
                    if event.client_id == "victim":
                        return  # a take-over is no accident
                    spoken = item.protocol_version
                    encoder = wire.Encoder(
                        spoken,
                        topic_alias_maximum=item.topic_alias_maximum or 0,
                        maximum_packet_size=item.maximum_packet_size,
                    )
                    aliases = item.topic_alias_maximum or 0
                    peer = encoder, wire.Decoder(CLIENT, spoken, topic_alias_maximum=aliases)
                    outcome = self.feed(event)
                elif peer is None:
                    assert isinstance(item, wire.WireError)
                    wire.refuse_connect(item.protocol_version, item.reason_code)
                    return
                else:
                    outcome = self.feed(wire.to_event(item, me))
                assert peer is not None
                over = self.answer(outcome, me, *peer)
            self.now += random.choice((0, 0, 0, 0.5, 3))
            self.store.handle_timeout(self.now)
        if peer is not None:
            self.feed(ConnectionLost(me))
        assert self.state_of_victim() == before

    def answer(
        self, outcome: Outcome, me: int, encoder: wire.Encoder, client: wire.Decoder
    ) -> bool:
        """Whether it closes; what is sent is for nobody else, and is no nonsense either."""
        over = False
        for action in outcome.actions:
            assert action.connection == me
            assert not over, "nothing follows CloseConnection"
            if isinstance(action, CloseConnection):
                over = True
                continue
            data = encoder.encode(action)
            items = client.feed(data)
            if data:
                assert len(items) == 1
                assert not isinstance(items[0], wire.WireError), (action, items)
            self.replies += 1
        return over


def fuzz_store(rounds: int, seed: str, attack: Attack) -> int:
    """Feed damaged streams to a store; how many answers came."""
    for role, told_version, version, stream, random in streams(rounds, seed):
        if role is CLIENT:
            continue
        data = stream
        if told_version is not None:  # a connection begins with CONNECT
            data = wire.encode(random.choice(_connects(version)), version) + stream
        attack.stream(data, random)
        if random.random() < 0.1:
            attack.feed(MessagePublished(Message("a", b"from elsewhere", 2)))
            attack.store.check()
    attack.store.check()
    return attack.replies


@pytest.mark.unmeasured
def test_a_store_bears_what_was_decoded_of_garbage_and_nobody_else_notices() -> None:
    assert fuzz_store(800, "store", Attack()) > 2000


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(20))
def test_a_store_bears_much_more_garbage(part: int) -> None:
    assert fuzz_store(4000, f"nightly {part}", Attack()) > 10_000


# ---------------------------------------------------------------- the checks are checked


class Raising(wire.Decoder):
    def feed(self, data: bytes) -> Items:
        if b"\xff\xff" in data:
            raise IndexError("a length was believed")
        return super().feed(data)


class OddCode(wire.Decoder):
    def feed(self, data: bytes) -> Items:
        items = super().feed(data)
        if items and isinstance(items[-1], wire.WireError):
            items[-1].reason_code = ReasonCode.SUCCESS
        return items


class Forgetful(wire.Decoder):
    """Loses what it holds of a header that is cut behind the first byte."""

    def feed(self, data: bytes) -> Items:
        items = super().feed(data)
        if self.buffered == 1:
            self._buffer.clear()
        return items


class Undead(wire.Decoder):
    """Goes on behind an error."""

    def feed(self, data: bytes) -> Items:
        self._failed = False
        return super().feed(data)


class Hoarding(wire.Decoder):
    """Keeps the bytes of a connection that is to be closed."""

    def feed(self, data: bytes) -> Items:
        items = super().feed(data)
        if self._failed:
            self._buffer += data
        return items


class Lenient(wire.Decoder):
    """Lets a PUBLISH of QoS 0 pass that says DUP."""

    def feed(self, data: bytes) -> Items:
        return [
            attrs.evolve(item, dup=True)
            if isinstance(item, wire.Publish) and not item.message.qos
            else item
            for item in super().feed(data)
        ]


@pytest.mark.parametrize("broken", [Raising, OddCode, Forgetful, Undead, Hoarding, Lenient])
def test_fuzzing_finds_a_broken_decoder(broken: type[wire.Decoder]) -> None:
    def make(role: wire.Role, version: int | None) -> wire.Decoder:
        return broken(
            role, version, maximum_packet_size=LARGEST, topic_alias_maximum=TOPIC_ALIAS_MAXIMUM
        )

    with pytest.raises((AssertionError, IndexError)):
        fuzz_decoder(400, "broken", make)


class Eager(wire.Decoder):
    """Makes room for what a header claims."""

    def feed(self, data: bytes) -> Items:
        items = super().feed(data)
        self._buffer = bytearray(max(self._needed, len(self._buffer)))
        return items


def test_memory_for_a_claimed_length_is_noticed() -> None:
    with pytest.raises(AssertionError, match="bytes for"):
        check_memory(Eager, CLIENT, 5, b"\x30\xff\xff\xff\x01" + b"x" * 10)


class Fragile(SessionStore):
    """Raises for what a peer does."""

    def handle(self, event: Any, now: float) -> Outcome:
        if isinstance(event, PubrelReceived) and event.packet_id == 9:
            raise InvalidState("no such exchange")
        return super().handle(event, now)


class Careless(SessionStore):
    """A malformed packet costs another its connection."""

    def handle(self, event: Any, now: float) -> Outcome:
        outcome = super().handle(event, now)
        if isinstance(event, MalformedPacketReceived) and self["victim"].connected:
            super().handle(ConnectionLost("victim"), now)
        return outcome


class Talkative(SessionStore):
    """Goes on behind CloseConnection."""

    def handle(self, event: Any, now: float) -> Outcome:
        outcome = super().handle(event, now)
        if any(isinstance(action, CloseConnection) for action in outcome.actions):
            return Outcome((), outcome.actions * 2, outcome.notices)
        return outcome


@pytest.mark.parametrize("broken", [Fragile, Careless, Talkative])
def test_fuzzing_finds_a_broken_store(broken: type[SessionStore]) -> None:
    with pytest.raises((AssertionError, InvalidState)):
        fuzz_store(400, "broken", Attack(broken()))
