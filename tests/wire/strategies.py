"""Legal packets of each protocol version, as Hypothesis strategies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mqtt_sessions import wire
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.reason_codes import ConnectReturnCode, ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.wire.packets import PacketType
from mqtt_sessions.wire.tables import REASON_CODES

VERSIONS = (3, 4, 5)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
topics = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=40
)
filters = st.one_of(
    topics, st.sampled_from(["#", "+", "a/+/b", "a/#", "$share/g/a/+", "\ufeffa", "/", "+/+"])
)
payloads = st.binary(max_size=200)
two_bytes = st.integers(0, 0xFFFF)
four_bytes = st.integers(0, 0xFFFFFFFF)
packet_ids = st.integers(1, 0xFFFF)
subscription_ids = st.one_of(
    st.integers(1, 268_435_455), st.sampled_from([127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
)
user_properties = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)


def maybe(strategy: st.SearchStrategy[Any], version: int = 5) -> st.SearchStrategy[Any]:
    """A property: absent sometimes, and always before MQTT 5.0."""
    return st.none() | strategy if version == 5 else st.none()


def pairs(version: int) -> st.SearchStrategy[Any]:
    return user_properties if version == 5 else st.just(())


def codes(kind: PacketType, version: int = 5) -> st.SearchStrategy[Any]:
    if version < 5:
        return st.just(ReasonCode.SUCCESS)
    return st.sampled_from(sorted(REASON_CODES[kind]))


def messages(version: int, qos: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[Any]:
    return st.builds(
        Message,
        topics,
        payloads,
        qos if qos is not None else st.integers(0, 2),
        st.booleans(),
        maybe(four_bytes, version),
        maybe(st.integers(0, 1), version),
        maybe(texts, version),
        maybe(topics, version),
        maybe(st.binary(max_size=20), version),
        pairs(version),
    )


@st.composite
def connects(draw: st.DrawFn, version: int) -> wire.Connect:
    user_name = draw(st.none() | texts)
    password = draw(st.none() | st.binary(max_size=20))
    if version < 5 and user_name is None:
        password = None
    delay = four_bytes if version == 5 else st.just(0)
    method = draw(maybe(texts, version))
    return wire.Connect(
        draw(texts),
        version,
        draw(st.booleans()),
        draw(two_bytes),
        draw(st.none() | st.builds(Will, messages(version), delay)),
        user_name,
        password,
        draw(maybe(four_bytes, version)),
        draw(maybe(packet_ids, version)),
        draw(maybe(st.integers(1, 0xFFFFFFFF), version)),
        draw(maybe(two_bytes, version)),
        draw(maybe(st.booleans(), version)),
        draw(maybe(st.booleans(), version)),
        draw(pairs(version)),
        method,
        None if method is None else draw(maybe(st.binary(max_size=20))),
    )


@st.composite
def connacks(draw: st.DrawFn, version: int) -> wire.Connack:
    if version < 5:
        code = draw(st.sampled_from(ConnectReturnCode))
        return wire.Connack(version == 4 and not code and draw(st.booleans()), code)
    reason_code = draw(codes(PacketType.CONNACK))
    flag = maybe(st.booleans())
    return wire.Connack(
        not reason_code and draw(st.booleans()),
        reason_code,
        draw(maybe(four_bytes)),
        draw(maybe(packet_ids)),
        draw(maybe(st.integers(0, 1))),
        draw(flag),
        draw(maybe(st.integers(1, 0xFFFFFFFF))),
        draw(maybe(texts)),
        draw(maybe(two_bytes)),
        draw(maybe(texts)),
        draw(user_properties),
        draw(flag),
        draw(flag),
        draw(flag),
        draw(maybe(two_bytes)),
        draw(maybe(texts)),
        draw(maybe(texts)),
        draw(maybe(texts)),
        draw(maybe(st.binary(max_size=20))),
    )


TOPIC_ALIAS_MAXIMUM = 10


@st.composite
def publishes(draw: st.DrawFn, version: int) -> wire.Publish:
    message = draw(messages(version))
    return wire.Publish(
        message,
        draw(packet_ids) if message.qos else None,
        draw(st.booleans()) if message.qos else False,
        draw(maybe(st.integers(1, TOPIC_ALIAS_MAXIMUM), version)),
        draw(st.lists(subscription_ids, max_size=3).map(tuple)) if version == 5 else (),
    )


def acks(version: int) -> st.SearchStrategy[Any]:
    return st.one_of(
        *(
            st.builds(
                packet, packet_ids, codes(kind, version), maybe(texts, version), pairs(version)
            )
            for packet, kind in (
                (wire.Puback, PacketType.PUBACK),
                (wire.Pubrec, PacketType.PUBREC),
                (wire.Pubrel, PacketType.PUBREL),
                (wire.Pubcomp, PacketType.PUBCOMP),
            )
        )
    )


@st.composite
def subscribes(draw: st.DrawFn, version: int) -> wire.Subscribe:
    subscription_id = draw(maybe(subscription_ids, version))
    subscriptions = []
    for topic_filter in draw(st.lists(filters, min_size=1, max_size=3)):
        qos = draw(st.integers(0, 2))
        if version < 5:
            subscriptions.append(Subscription(topic_filter, qos))
            continue
        no_local = not topic_filter.startswith("$share/") and draw(st.booleans())
        retain = draw(st.booleans()), draw(st.integers(0, 2))
        subscriptions.append(Subscription(topic_filter, qos, no_local, *retain, subscription_id))
    return wire.Subscribe(draw(packet_ids), tuple(subscriptions), draw(pairs(version)))


@st.composite
def subacks(draw: st.DrawFn, version: int) -> wire.Suback:
    granted = [ReasonCode.SUCCESS, ReasonCode.GRANTED_QOS_1, ReasonCode.GRANTED_QOS_2]
    allowed = {
        3: granted,
        4: [*granted, ReasonCode.UNSPECIFIED_ERROR],
        5: sorted(REASON_CODES[PacketType.SUBACK]),
    }
    one = st.sampled_from(allowed[version])
    return wire.Suback(
        draw(packet_ids),
        tuple(draw(st.lists(one, min_size=1, max_size=4))),
        draw(maybe(texts, version)),
        draw(pairs(version)),
    )


@st.composite
def unsubacks(draw: st.DrawFn, version: int) -> wire.Unsuback:
    if version < 5:
        return wire.Unsuback(draw(packet_ids))
    one = codes(PacketType.UNSUBACK)
    return wire.Unsuback(
        draw(packet_ids),
        tuple(draw(st.lists(one, min_size=1, max_size=4))),
        draw(maybe(texts)),
        draw(user_properties),
    )


def unsubscribes(version: int) -> st.SearchStrategy[Any]:
    topic_filters = st.lists(filters, min_size=1, max_size=3).map(tuple)
    return st.builds(wire.Unsubscribe, packet_ids, topic_filters, pairs(version))


def disconnects(version: int, *, from_client: bool) -> st.SearchStrategy[Any]:
    if version < 5:
        return st.just(wire.Disconnect())
    return st.builds(
        wire.Disconnect,
        codes(PacketType.DISCONNECT),
        maybe(four_bytes) if from_client else st.none(),
        maybe(texts),
        user_properties,
        st.none() if from_client else maybe(texts),
    )


def auths(*, from_client: bool) -> st.SearchStrategy[Any]:
    code = ReasonCode.RE_AUTHENTICATE if from_client else ReasonCode.SUCCESS
    return st.builds(
        wire.Auth,
        st.sampled_from([ReasonCode.CONTINUE_AUTHENTICATION, code]),
        texts,
        maybe(st.binary(max_size=20)),
        maybe(texts),
        user_properties,
    )


def from_client(version: int) -> st.SearchStrategy[Any]:
    """What a client sends after CONNECT."""
    kinds = [
        publishes(version),
        acks(version),
        subscribes(version),
        unsubscribes(version),
        st.just(wire.Pingreq()),
        disconnects(version, from_client=True),
    ]
    return st.one_of(*kinds, *([auths(from_client=True)] if version == 5 else []))


def from_server(version: int) -> st.SearchStrategy[Any]:
    """What a server sends."""
    kinds = [
        connacks(version),
        publishes(version),
        acks(version),
        subacks(version),
        unsubacks(version),
        st.just(wire.Pingresp()),
        disconnects(version, from_client=False),
    ]
    return st.one_of(*kinds, *([auths(from_client=False)] if version == 5 else []))


def deliveries() -> st.SearchStrategy[Any]:
    return st.builds(
        Delivery,
        messages(5),
        st.integers(0, 2),
        st.booleans(),
        st.lists(subscription_ids, max_size=3).map(tuple),
        st.just(0.0),
        st.none(),
        maybe(four_bytes),
    )
