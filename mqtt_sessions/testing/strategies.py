"""Hypothesis strategies for what session semantics are made of.

Alphabets are small by default: topics that never meet and clients that never come back prove
little. Each strategy shrinks towards its plainest value: first client, first topic, QoS 0, no
property, and every value that it draws is one that its constructor accepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, product
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mqtt_sessions.events import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    DeliverMessage,
    DisconnectReceived,
    Event,
    HeartbeatPassed,
    LimitsChanged,
    MalformedPacketReceived,
    MessagePublished,
    MessageRouted,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    QueuePurged,
    ServerStopping,
    SessionDiscarded,
    SessionExpirySet,
    SessionKicked,
    SubscribeReceived,
    SubscriptionsAdded,
    SubscriptionsRemoved,
    UnsubscribeReceived,
    WillRevoked,
)
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.policy import (
    ExpiryPolicy,
    OverflowPolicy,
    OverlapPolicy,
    ServerOptions,
    SessionLimits,
    UnauthorizedPolicy,
)
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription

__all__ = [
    "client_ids",
    "connections",
    "connects",
    "deliveries",
    "events",
    "host_events",
    "intervals",
    "limits",
    "messages",
    "options",
    "packet_ids",
    "policies",
    "publishes",
    "subscriptions",
    "topic_filters",
    "topic_names",
    "wills",
]

NEVER = 0xFFFFFFFF
"""Session Expiry Interval of a session that never expires."""

VERSIONS = (5, 4, 3)

_MOSTLY_NONE = (None,) * 8
_PUBLISH_REFUSALS = (ReasonCode.NOT_AUTHORIZED, ReasonCode.QUOTA_EXCEEDED)
_SUBSCRIBE_REFUSALS = (ReasonCode.NOT_AUTHORIZED, ReasonCode.TOPIC_FILTER_INVALID)


def _rarely(strategy: SearchStrategy[Any], otherwise: Any = None) -> SearchStrategy[Any]:
    """Mostly the plain value."""
    plain = st.just(otherwise)
    return st.one_of(plain, plain, strategy)


# ---------------------------------------------------------------- words


def client_ids(alphabet: Sequence[str] = ("a", "b", "c")) -> SearchStrategy[str]:
    """A client identifier out of a few."""
    return st.sampled_from(alphabet)


def connections(count: int = 4) -> SearchStrategy[int]:
    """The name of a network connection: 1 to `count`."""
    return st.integers(1, count)


def packet_ids(count: int = 4) -> SearchStrategy[int]:
    """A packet identifier: 1 to `count`."""
    return st.integers(1, count)


def topic_names(
    levels: Sequence[str] = ("t", "x", ""), depth: int = 2, dollar: bool = True
) -> SearchStrategy[str]:
    """A well-formed topic name.

    Args:
        levels: What a level may be; empty levels are real ones [NN-12.9].
        depth: Levels at most.
        dollar: Also names that begin with `$`, which wildcards do not match.
    """
    names = _joined(levels, depth)
    return st.sampled_from([*names, "$s"] if dollar else names)


def _joined(levels: Sequence[str], depth: int) -> list[str]:
    """All names of so many levels, short ones first."""
    deep = (product(levels, repeat=count) for count in range(1, depth + 1))
    return [name for parts in chain.from_iterable(deep) if (name := "/".join(parts))]


def topic_filters(
    levels: Sequence[str] = ("t", "x", ""), depth: int = 2, dollar: bool = True
) -> SearchStrategy[str]:
    """A well-formed topic filter, with wildcards or without; no shared subscription.

    Args:
        levels: As for `topic_names`, which these filters match.
        depth: Levels at most, a trailing `#` besides.
        dollar: Also filters for topics that begin with `$`.
    """
    whole = _joined((*levels, "+"), depth)
    below = ["#", *(f"{each}/#" for each in whole)]
    return st.sampled_from([*whole, *below, *(("$s", "$s/#") if dollar else ())])


def intervals(
    plain: Sequence[int | None] = (None, 0, 3, 8), most: int = 100
) -> SearchStrategy[int | None]:
    """Seconds as a client sends them: a few that meet each other's deadlines, or any."""
    return st.one_of(st.sampled_from(plain), st.integers(1, most))


# ---------------------------------------------------------------- values


def messages(
    version: int = 5,
    topics: SearchStrategy[str] | None = None,
    qos: SearchStrategy[int] | None = None,
    retain: SearchStrategy[bool] | None = None,
    expiry: bool = True,
) -> SearchStrategy[Message]:
    """An application message.

    Args:
        version: Protocol version of the publisher: before 5 a message has no properties.
        topics: Its topic name; by default `topic_names()`.
        qos: By default 0, 1 or 2.
        retain: By default both.
        expiry: Some have a Message Expiry Interval.
    """
    properties = version == 5
    interval = intervals() if properties and expiry else st.none()
    text = _rarely(st.sampled_from(("text", ""))) if properties else st.none()
    return st.builds(
        Message,
        topic_names() if topics is None else topics,
        st.binary(max_size=4),
        st.integers(0, 2) if qos is None else qos,
        st.booleans() if retain is None else retain,
        interval,
        _rarely(st.integers(0, 1)) if properties else st.none(),
        text,
        _rarely(st.sampled_from(("answer", "a/b"))) if properties else st.none(),
        _rarely(st.binary(max_size=2)) if properties else st.none(),
        _rarely(st.just((("n", "v"), ("n", ""))), ()) if properties else st.just(()),
    )


def wills(version: int = 5, expiry: bool = True) -> SearchStrategy[Will]:
    """A Will Message, before MQTT 5.0 without delay."""
    delayed = version == 5 and expiry
    delay = st.sampled_from((0, 3, 20)) if delayed else st.just(0)
    return st.builds(Will, messages(version, expiry=expiry), delay)


def subscriptions(
    version: int = 5, filters: SearchStrategy[str] | None = None
) -> SearchStrategy[Subscription]:
    """A subscription with well-formed options, before MQTT 5.0 with the QoS alone."""
    filters = topic_filters() if filters is None else filters
    if version < 5:
        return st.builds(Subscription, filters, st.integers(0, 2))
    return st.builds(
        Subscription,
        filters,
        st.integers(0, 2),
        st.booleans(),
        st.booleans(),
        st.integers(0, 2),
        st.none() | st.integers(1, 3),
    )


def deliveries() -> SearchStrategy[Delivery]:
    """A message as a router of the host's own hands it to a `Session`."""
    return st.builds(
        Delivery,
        messages(),
        st.integers(0, 2),
        st.booleans(),
        st.lists(st.integers(1, 3), max_size=2).map(tuple),
    )


# ---------------------------------------------------------------- configuration


def policies(deviations: bool = True) -> SearchStrategy[ExpiryPolicy]:
    """When things end.

    Args:
        deviations: Also what breaks a statement of the standard, such as a time-out for inbound
            QoS 2 identifiers.
    """
    broken: dict[str, SearchStrategy[Any]] = {}
    if deviations:
        broken = {
            "expire_in_flight": _rarely(st.just(True), False),
            "inbound_qos2_interval": _rarely(st.sampled_from((2.0, 5.0))),
        }
    return st.builds(
        ExpiryPolicy,
        default_session_expiry_interval=st.sampled_from((7200, 6, 0, None)),
        maximum_session_expiry_interval=_rarely(st.sampled_from((4, 6))),
        minimum_session_expiry_interval=_rarely(st.sampled_from((1, 4))),
        default_message_expiry_interval=_rarely(st.sampled_from((4.0, 1.5))),
        maximum_message_expiry_interval=_rarely(st.sampled_from((5.0, 2.5))),
        show_default_message_expiry=st.booleans(),
        retry_interval=_rarely(st.just(4.0)),
        **broken,
    )


def limits() -> SearchStrategy[SessionLimits]:
    """How far things grow: mostly small bounds, which are reached."""
    return st.builds(
        SessionLimits,
        maximum_sessions=_rarely(st.just(2)),
        maximum_subscriptions=_rarely(st.integers(0, 2)),
        maximum_filters_per_packet=st.sampled_from((1000, 1)),
        maximum_filter_levels=_rarely(st.just(1)),
        maximum_granted_qos=st.sampled_from((2, 2, 1, 0)),
        maximum_send_window=st.sampled_from((32, 1, 2)),
        maximum_queued_messages=st.sampled_from((1000, 0, 1, 3, None)),
        maximum_queued_bytes=_rarely(st.sampled_from((4, 10))),
        overflow=st.sampled_from(
            (
                OverflowPolicy.DROP_EXPIRED_QOS0_OLDEST,
                OverflowPolicy.DROP_OLDEST,
                OverflowPolicy.DROP_NEWEST,
            )
        ),
        queue_qos0=st.sampled_from((True, False)),
        maximum_inbound_qos2=st.sampled_from((100, 0, 1, 2, None)),
        maximum_retained_messages=_rarely(st.integers(0, 2)),
        maximum_retained_bytes=_rarely(st.sampled_from((2, 6))),
        retained_replay_batch=st.sampled_from((100, 1)),
    )


def options() -> SearchStrategy[ServerOptions]:
    """What the server offers, and which choice it makes."""
    return st.builds(
        ServerOptions,
        receive_maximum=st.sampled_from((100, 1, 2)),
        enforce_receive_maximum=st.sampled_from((True, True, False)),
        maximum_packet_size=_rarely(st.just(1000)),
        topic_alias_maximum=_rarely(st.just(5), 0),
        maximum_qos=st.sampled_from((2, 2, 2, 1, 0)),
        retain_available=st.sampled_from((True, True, False)),
        server_keep_alive=_rarely(st.sampled_from((0, 4))),
        overlap=st.sampled_from((OverlapPolicy.MERGE, OverlapPolicy.EACH)),
        upgrade_qos=_rarely(st.just(True), False),
        unauthorized=st.sampled_from((UnauthorizedPolicy.ACKNOWLEDGE, UnauthorizedPolicy.CLOSE)),
    )


# ---------------------------------------------------------------- events


def connects(
    versions: Sequence[int] = VERSIONS,
    *,
    has_wills: bool = True,
    has_expiry: bool = True,
    has_keep_alive: bool = True,
    is_hosted: bool = True,
) -> SearchStrategy[ClientConnected]:
    """A CONNECT of client `a`, `b` or `c`, by connections 1 to 4.

    Args:
        versions: Protocol versions to choose from.
        has_wills: Some carry a will.
        has_expiry: Sessions end by time and wills are delayed; else a session is kept for good or
            not at all.
        has_keep_alive: Some have a Keep Alive.
        is_hosted: The host adds something of its own: an assigned client id, a principal, a policy
            or limits for this client alone.
    """
    # Every version draws the same, or a version with less to draw would pass for plainer.
    kept = (8, NEVER, 3, 0, None) if has_expiry else (NEVER, 0, None)
    hosted = (_rarely(policies()), _rarely(limits())) if is_hosted else ()
    return st.builds(
        _connect,
        connections(),
        client_ids(),
        st.sampled_from(tuple(versions)),
        st.sampled_from((False, True)),
        st.sampled_from(kept),
        st.sampled_from((None, 1, 2)),
        st.sampled_from((0, 0, 0, 2, 4)) if has_keep_alive else st.just(0),
        st.none() | wills(5, has_expiry) if has_wills else st.none(),
        st.sampled_from((*_MOSTLY_NONE, "assigned")) if is_hosted else st.none(),
        st.sampled_from((*_MOSTLY_NONE, "p", "q")) if is_hosted else st.none(),
        *hosted,
    )


def _connect(
    connection: int,
    client_id: str,
    version: int,
    clean_start: bool,
    session_expiry_interval: int | None,
    receive_maximum: int | None,
    keep_alive: int,
    will: Will | None,
    assigned: str | None,
    principal: str | None,
    policy: ExpiryPolicy | None = None,
    own_limits: SessionLimits | None = None,
) -> ClientConnected:
    """A CONNECT of a version, without what that version does not have."""
    if version < 5:
        session_expiry_interval = receive_maximum = None
        if will is not None:
            said = will.message
            will = Will(Message(said.topic_name, said.payload, said.qos, said.retain))
    return ClientConnected(
        connection,
        client_id if assigned is None else "",
        version,
        clean_start,
        session_expiry_interval,
        receive_maximum,
        keep_alive=keep_alive,
        will=will,
        assigned_client_id=assigned,
        principal=principal,
        policy=policy,
        limits=own_limits,
    )


def publishes(version: int = 5) -> SearchStrategy[PublishReceived]:
    """A PUBLISH of connections 1 to 4, with a packet identifier where it needs one."""

    def received(
        connection: int, message: Message, packet_id: int, dup: bool, refusal: ReasonCode | None
    ) -> PublishReceived:
        if not message.qos:
            return PublishReceived(connection, message, None, False, refusal)
        return PublishReceived(connection, message, packet_id, dup, refusal)

    return st.builds(
        received,
        connections(),
        messages(version),
        packet_ids(),
        st.booleans(),
        _rarely(st.sampled_from(_PUBLISH_REFUSALS)),
    )


def _acknowledgements() -> list[SearchStrategy[Any]]:
    codes = _rarely(st.just(ReasonCode.UNSPECIFIED_ERROR), ReasonCode.SUCCESS)
    return [
        st.builds(kind, connections(), packet_ids(), codes)
        for kind in (PubackReceived, PubrecReceived, PubrelReceived, PubcompReceived)
    ]


def _refused(
    build: Any, connection: int, packet_id: int, entries: list[Any], refusal: ReasonCode | None
) -> Any:
    refusals = () if refusal is None else (refusal,) + (None,) * (len(entries) - 1)
    return build(connection, packet_id, tuple(entries), refusals)


def _subscribes() -> list[SearchStrategy[Any]]:
    return [
        st.builds(
            _refused,
            st.just(kind),
            connections(),
            packet_ids(),
            st.lists(each, min_size=1, max_size=2),
            _rarely(st.sampled_from(_SUBSCRIBE_REFUSALS)),
        )
        for kind, each in (
            (SubscribeReceived, subscriptions()),
            (UnsubscribeReceived, topic_filters()),
        )
    ]


def host_events() -> SearchStrategy[Event]:
    """What the host itself does to a store, by client ids `a`, `b` and `c`."""
    several = st.lists(subscriptions(), min_size=1, max_size=2).map(tuple)
    return st.one_of(
        st.builds(MessagePublished, messages(), st.none() | client_ids()),
        st.builds(SessionKicked, client_ids()),
        st.builds(SessionDiscarded, client_ids()),
        st.builds(SessionExpirySet, client_ids(), st.sampled_from((0, 3, None))),
        st.builds(SubscriptionsAdded, client_ids(), several),
        st.builds(
            SubscriptionsRemoved,
            client_ids(),
            st.lists(topic_filters(), min_size=1, max_size=2).map(tuple),
        ),
        st.builds(WillRevoked, client_ids()),
        st.builds(
            QueuePurged,
            client_ids(),
            st.none() | topic_filters(),
            st.none() | st.integers(0, 20).map(float),
        ),
        st.builds(LimitsChanged, limits()),
        st.just(ServerStopping()),
        st.just(HeartbeatPassed()),
    )


def events(version: int = 5, *, routed: bool = False) -> SearchStrategy[Event]:
    """Anything that can happen to a store, in any order: a peer of `version` keeps to no rule.

    Whether it can happen now is for the receiver to say: an event of an unknown connection or
    session raises `InvalidState`.

    Args:
        version: Protocol version of clients that connect and publish.
        routed: Also what only a `Session` without a store understands.
    """
    every: list[SearchStrategy[Any]] = [
        connects((version,)),
        publishes(version),
        *_acknowledgements(),
        *_subscribes(),
        st.builds(PingReceived, connections(), st.booleans()),
        st.builds(
            DisconnectReceived,
            connections(),
            st.sampled_from((ReasonCode.SUCCESS, ReasonCode.DISCONNECT_WITH_WILL_MESSAGE, 0x80)),
            intervals() if version == 5 else st.none(),
        ),
        st.builds(MalformedPacketReceived, connections()),
        st.builds(ConnectionLost, connections()),
        st.builds(ConnectionCongested, connections()),
        st.builds(ConnectionWritable, connections()),
        host_events(),
    ]
    if routed:
        every += [
            st.builds(MessageRouted, st.integers(1, 4)),
            st.builds(DeliverMessage, deliveries()),
        ]
    return st.one_of(every)
