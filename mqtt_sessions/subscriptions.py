"""A subscription: a topic filter and its options."""

from __future__ import annotations

from mqtt_sessions._values import value

__all__ = ["Subscription"]


@value
class Subscription:
    """A topic filter with its subscription options and identifier.

    Not validated here, for a client may send anything: `SubscribeReceived` answers a bad one with
    a reason code, `SubscriptionsAdded` (the host's own) raises `InvalidValue`.

    Attributes:
        topic_filter: The filter as sent.
        qos: Requested maximum QoS: 0, 1 or 2.
        no_local: Messages of the subscriber itself are not sent back. MQTT 5.0 only.
        retain_as_published: Keep the publisher's RETAIN flag. MQTT 5.0 only.
        retain_handling: 0 send retained messages, 1 only if the subscription is new, 2 never.
        subscription_id: 1 to 268,435,455, or None.

    Spec: MQTT 5.0 §3.8.3.1, §3.8.2.1.2.
    """

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0
    subscription_id: int | None = None
