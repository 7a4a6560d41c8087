"""What comes out: what the host has to do, in order, as values named in the imperative."""

from __future__ import annotations

from collections.abc import Hashable

from mqtt_sessions._values import value
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.reason_codes import ConnectReturnCode, ReasonCode

__all__ = [
    "Action",
    "CloseConnection",
    "RouteMessage",
    "SendConnack",
    "SendDisconnect",
    "SendPingresp",
    "SendPuback",
    "SendPubcomp",
    "SendPublish",
    "SendPubrec",
    "SendPubrel",
    "SendSuback",
    "SendUnsuback",
]


@value
class SendConnack:
    """Send CONNACK; the first packet on every accepted connection [MQTT-3.2.0-1].

    The fields after `reason_code` are properties of MQTT 5.0; None leaves the property out.

    Attributes:
        connection: Where to.
        session_present: Whether a session is continued.
        reason_code: A `ReasonCode` for 5.0, a `ConnectReturnCode` for 3.x.
        session_expiry_interval: In force, if it is not what the client asked for; 0xFFFFFFFF is
            never [NN-1.3].
        receive_maximum: None: 65,535.
        maximum_qos: None: 2.
        retain_available: None: available.
        maximum_packet_size: Bytes; None: no limit.
        assigned_client_identifier: If the client came without an id [MQTT-3.1.3-7].
        topic_alias_maximum: None: 0.
        server_keep_alive: Seconds, if it replaces the client's.
        shared_subscription_available: False: `$share` filters are refused.

    Spec: MQTT 5.0 §3.2.
    """

    connection: Hashable
    session_present: bool
    reason_code: ReasonCode | ConnectReturnCode
    session_expiry_interval: int | None = None
    receive_maximum: int | None = None
    maximum_qos: int | None = None
    retain_available: bool | None = None
    maximum_packet_size: int | None = None
    assigned_client_identifier: str | None = None
    topic_alias_maximum: int | None = None
    server_keep_alive: int | None = None
    shared_subscription_available: bool | None = None


@value
class SendPublish:
    """Send PUBLISH.

    Attributes:
        connection: Where to.
        delivery: What; shared by all receivers of the same combination.
        packet_id: None at QoS 0.
        dup: True only for a re-sent packet [MQTT-3.3.1-1].
        message_expiry_interval: Seconds left, rounded up; None: the property is left out.

    Spec: MQTT 5.0 §3.3, §3.3.2.3.3 [MQTT-3.3.2-6].
    """

    connection: Hashable
    delivery: Delivery
    packet_id: int | None
    dup: bool
    message_expiry_interval: int | None


@value
class SendPuback:
    """Send PUBACK; MQTT 3.x leaves the code out. Spec: MQTT 5.0 §3.4."""

    connection: Hashable
    packet_id: int
    reason_code: ReasonCode


@value
class SendPubrec:
    """Send PUBREC; MQTT 3.x leaves the code out. Spec: MQTT 5.0 §3.5."""

    connection: Hashable
    packet_id: int
    reason_code: ReasonCode


@value
class SendPubrel:
    """Send PUBREL; MQTT 3.x leaves the code out. Spec: MQTT 5.0 §3.6."""

    connection: Hashable
    packet_id: int
    reason_code: ReasonCode


@value
class SendPubcomp:
    """Send PUBCOMP; MQTT 3.x leaves the code out. Spec: MQTT 5.0 §3.7."""

    connection: Hashable
    packet_id: int
    reason_code: ReasonCode


@value
class SendSuback:
    """Send SUBACK with one code for each filter [MQTT-3.8.4-6].

    A 3.1.1 client gets 0x00 to 0x02 or 0x80 [3.1.1 MQTT-3.9.3-2]; MQTT 3.1 knows no failure code,
    so a refused entry says 0x00 there and no subscription is made. Spec: MQTT 5.0 §3.9.
    """

    connection: Hashable
    packet_id: int
    reason_codes: tuple[ReasonCode, ...]


@value
class SendUnsuback:
    """Send UNSUBACK; MQTT 3.x leaves the codes out. Spec: MQTT 5.0 §3.11."""

    connection: Hashable
    packet_id: int
    reason_codes: tuple[ReasonCode, ...]


@value
class SendPingresp:
    """Send PINGRESP. Spec: MQTT 5.0 §3.13."""

    connection: Hashable


@value
class SendDisconnect:
    """Send DISCONNECT; only ever to a 5.0 client, and a `CloseConnection` follows.

    Spec: MQTT 5.0 §3.14 [MQTT-3.14.4-1].
    """

    connection: Hashable
    reason_code: ReasonCode


@value
class CloseConnection:
    """Close the network connection once everything before this has been written.

    Its later events are ignored; the host still reports `ConnectionLost`.

    Attributes:
        connection: Which.
        reason_code: Why, for the host's log.
    """

    connection: Hashable
    reason_code: ReasonCode


@value
class RouteMessage:
    """Only from a session without a store: find the receivers of a message.

    Answer with `MessageRouted`, upon which PUBACK or PUBREC appears.

    Attributes:
        message: What was published.
        route_id: To be named in the answer; None for a will or QoS 0, which need none.
        publisher: Client id of the publisher.
    """

    message: Message
    route_id: int | None
    publisher: str


Action = (
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
    | CloseConnection
    | RouteMessage
)
