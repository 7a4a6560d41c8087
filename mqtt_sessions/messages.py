"""Application messages, wills, and a message on its way to receivers."""

from __future__ import annotations

from attrs import field

from mqtt_sessions._values import hidden_bytes, value

__all__ = ["Delivery", "Message", "Will"]


@value
class Message:
    """An application message as its publisher sent it, topic alias resolved.

    One object is shared by everything that holds the message. Not validated here, since messages
    flow: a peer's bad field is answered by a reason code, a host's one raises in the constructor
    of the event that carries it.

    Attributes:
        topic_name: Full topic name.
        payload: Application payload; never shown by `repr`.
        qos: 0, 1 or 2.
        retain: RETAIN flag.
        message_expiry_interval: Seconds from arrival, 0 to 0xFFFFFFFF; None: does not expire.
        payload_format_indicator: 0, 1 or None.
        content_type: Forwarded unchanged.
        response_topic: Forwarded unchanged.
        correlation_data: Forwarded unchanged; never shown by `repr`.
        user_properties: Pairs of name and value, order kept.

    Spec: MQTT 5.0 §3.3 [MQTT-3.3.2-4], [MQTT-3.3.2-15] to [MQTT-3.3.2-18], [MQTT-3.3.2-20].
    """

    topic_name: str
    payload: bytes = field(default=b"", repr=hidden_bytes)
    qos: int = 0
    retain: bool = False
    message_expiry_interval: int | None = None
    payload_format_indicator: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = field(default=None, repr=hidden_bytes)
    user_properties: tuple[tuple[str, str], ...] = ()


@value
class Will:
    """A Will Message and the delay before it is published.

    Attributes:
        message: The message; its expiry interval counts from publication [NN-4.6].
        will_delay_interval: Seconds from the end of the connection, 0 to 0xFFFFFFFF. MQTT 5.0 only.

    Spec: MQTT 5.0 §3.1.3.2.2.
    """

    message: Message
    will_delay_interval: int = 0


@value
class Delivery:
    """A message as one or many subscribers get it: immutable and shared by all of them.

    Made once per publish for each distinct combination of QoS, RETAIN and identifiers, so that a
    queued message costs a session one reference.

    Attributes:
        message: What was published.
        qos: QoS of this delivery: min of published and granted [MQTT-3.8.4-8].
        retain: RETAIN flag to send.
        subscription_ids: One for each matching subscription that has one.
        received_at: Instant at which the message arrived; waiting time counts from here. Minus
            infinity: with `DeliverMessage` it arrives in that call, and the session's policy
            fills in the next two fields where they are None.
        expires_at: Instant at which the message is deleted if not begun; None: never.
        message_expiry_interval: Interval that receivers are told, counted from `received_at`;
            None: none is told.
        publisher: Client id of the publisher; None: the host.
        is_retained: Sent because of a subscribe, so that RETAIN is 1 for MQTT 3.x too; a live
            message has RETAIN 0 there [3.1.1 MQTT-3.3.1-9].
    """

    message: Message
    qos: int
    retain: bool = False
    subscription_ids: tuple[int, ...] = ()
    received_at: float = float("-inf")
    expires_at: float | None = None
    message_expiry_interval: int | None = None
    publisher: str | None = None
    is_retained: bool = False
