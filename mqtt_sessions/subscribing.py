"""SUBSCRIBE and UNSUBSCRIBE: what each entry is granted, and what changes in the session.

Spec: MQTT 5.0 §3.8.4, §3.10.4, §4.8.1 [NN-12.1].
"""

from __future__ import annotations

from mqtt_sessions._values import value
from mqtt_sessions.connection import Link
from mqtt_sessions.events import SubscribeReceived, UnsubscribeReceived
from mqtt_sessions.flows import Inbound
from mqtt_sessions.inbound import Fault, phase_of
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.state import Route, SessionState
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.topics import is_shared_filter, is_valid_filter

__all__ = ["Granted", "subscribe", "unsubscribe"]

_GRANTED = (ReasonCode.SUCCESS, ReasonCode.GRANTED_QOS_1, ReasonCode.GRANTED_QOS_2)
_SUBSCRIPTION_ID_MAX = 268_435_455
_IN_USE = ReasonCode.PACKET_IDENTIFIER_IN_USE


@value
class Granted:
    """One subscription made or replaced.

    Attributes:
        route: In force from now on.
        is_new: Whether the session had no subscription to the filter before.
        retain_handling: As asked for this time.
    """

    route: Route
    is_new: bool
    retain_handling: int

    @classmethod
    def make(cls, session: SessionState, wanted: Subscription, granted_qos: int = 2) -> Granted:
        """Make the subscription, or replace the one to the same filter [MQTT-3.8.4-3], [NN-12.2].

        All options are replaced, and with them the Subscription Identifier [NN-12.5].

        *Cost* O(1).
        """
        options = Route.pack(wanted, min(wanted.qos, granted_qos))
        route = session.route(wanted.topic_filter)
        if route is not None:
            route.options = options
            return cls(route, False, wanted.retain_handling)
        route = Route(session, wanted.topic_filter, options)
        session.add_route(route)
        return cls(route, True, wanted.retain_handling)


def subscribe(
    session: SessionState, link: Link, event: SubscribeReceived
) -> tuple[tuple[ReasonCode, ...], list[Granted]]:
    """Grant or refuse entry by entry, in order [MQTT-3.8.4-5].

    Returns:
        The codes of SUBACK, one for each entry and in their order [MQTT-3.8.4-6], [MQTT-3.8.4-7],
        [MQTT-3.9.3-1], and the subscriptions made or replaced.

    Raises:
        Fault: The connection has to be closed; nothing was changed.

    *Cost* O(entries).
    """
    if not event.subscriptions:
        raise Fault(ReasonCode.PROTOCOL_ERROR, "SUBSCRIBE without a filter [3.8.3-2]")
    _check_entries(session, link, len(event.subscriptions))
    for wanted in event.subscriptions:
        _check_options(link, wanted)
    if _is_id_in_use(session, link, event.packet_id, "SUBSCRIBE"):
        return (_IN_USE,) * len(event.subscriptions), []
    codes: list[ReasonCode] = []
    granted: list[Granted] = []
    limits = session.settings.limits
    for index, wanted in enumerate(event.subscriptions):
        refusal = event.refusals[index] if event.refusals else None
        refusal = refusal or _refusal(session, wanted)
        if refusal is None:
            # MQTT-3.2.2-10: whatever Maximum QoS holds for publishing
            made = Granted.make(session, wanted, limits.maximum_granted_qos)
            granted.append(made)
            codes.append(_GRANTED[made.route.options & 3])
        elif link.version == 5:
            codes.append(refusal)
        elif link.version == 4:
            codes.append(ReasonCode.UNSPECIFIED_ERROR)  # 3.1.1 MQTT-3.9.3-2
        else:
            codes.append(ReasonCode.SUCCESS)  # MQTT 3.1 knows no failure code
    return tuple(codes), granted


def _check_entries(session: SessionState, link: Link, entries: int) -> None:
    """Whether the packet is a bounded piece of work, and its answer may be sent.

    MQTT-3.1.2-24: an answer that may not be sent cannot be left out either [MQTT-3.8.4-1].
    """
    most = session.settings.limits.maximum_filters_per_packet
    if most is not None and entries > most:
        raise Fault(ReasonCode.QUOTA_EXCEEDED, f"more than {most} filters in one packet")
    maximum = link.maximum_packet_size
    remaining = 3 + entries  # packet identifier, no properties, the codes
    if maximum is not None and 2 + (remaining > 127) + (remaining > 16_383) + remaining > maximum:
        raise Fault(ReasonCode.PACKET_TOO_LARGE, "the answer exceeds Maximum Packet Size")


def _check_options(link: Link, wanted: Subscription) -> None:
    if wanted.qos not in (0, 1, 2) or wanted.retain_handling not in (0, 1, 2):
        raise Fault(ReasonCode.PROTOCOL_ERROR, "QoS 3 or Retain Handling 3 [3.8.3.1]")
    subscription_id = wanted.subscription_id
    if subscription_id is not None and not 1 <= subscription_id <= _SUBSCRIPTION_ID_MAX:
        raise Fault(ReasonCode.PROTOCOL_ERROR, "Subscription Identifier 0 [3.8.2.1.2]")
    if link.version == 5 and is_shared_filter(wanted.topic_filter):
        if wanted.no_local:
            raise Fault(ReasonCode.PROTOCOL_ERROR, "No Local on a shared filter [3.8.3-4]")
        raise Fault(ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, "shared filter [3.2.2.3.13]")


def _is_id_in_use(session: SessionState, link: Link, packet_id: int, what: str) -> bool:
    """NN-6.5: an open QoS 2 exchange holds the identifier and stays as it is [MQTT-2.2.1-3]."""
    if not packet_id:
        raise Fault(ReasonCode.PROTOCOL_ERROR, f"{what} without a packet identifier [2.2.1]")
    if phase_of(session, packet_id) is Inbound.IDLE and packet_id not in link.inbound_units:
        return False
    if link.version < 5:
        raise Fault(_IN_USE, "identifier of an open QoS 2 exchange")
    return True


def _refusal(session: SessionState, wanted: Subscription) -> ReasonCode | None:
    limits = session.settings.limits
    topic_filter = wanted.topic_filter
    if not is_valid_filter(topic_filter) or is_shared_filter(topic_filter):
        # 4.7.1 [O], NN-13.10: one entry, not the connection
        return ReasonCode.TOPIC_FILTER_INVALID
    levels = limits.maximum_filter_levels
    if levels is not None and topic_filter.count("/") >= levels:
        return ReasonCode.TOPIC_FILTER_INVALID
    maximum = limits.maximum_subscriptions
    if (
        maximum is not None
        and session.route_count() >= maximum
        and session.route(topic_filter) is None
    ):
        return ReasonCode.QUOTA_EXCEEDED
    return None


def unsubscribe(
    session: SessionState, link: Link, event: UnsubscribeReceived
) -> tuple[tuple[ReasonCode, ...], list[Route]]:
    """Remove entry by entry, in order; what is queued or begun stays [NN-12.7], [MQTT-3.10.4-3].

    Returns:
        The codes of UNSUBACK, and the subscriptions removed.

    Raises:
        Fault: The connection has to be closed; nothing was changed.

    *Cost* O(entries).

    Spec: MQTT 5.0 §3.10.4 [MQTT-3.10.4-1], [MQTT-3.10.4-5], [MQTT-3.10.4-6].
    """
    if not event.topic_filters:
        raise Fault(ReasonCode.PROTOCOL_ERROR, "UNSUBSCRIBE without a filter [3.10.3-2]")
    _check_entries(session, link, len(event.topic_filters))
    if _is_id_in_use(session, link, event.packet_id, "UNSUBSCRIBE"):
        return (_IN_USE,) * len(event.topic_filters), []
    codes: list[ReasonCode] = []
    removed: list[Route] = []
    for index, topic_filter in enumerate(event.topic_filters):
        refusal = event.refusals[index] if event.refusals else None
        if refusal is not None:
            codes.append(refusal)
            continue
        route = session.remove_route(topic_filter)
        if route is None:
            codes.append(ReasonCode.NO_SUBSCRIPTION_EXISTED)
        else:
            removed.append(route)
            codes.append(ReasonCode.SUCCESS)
    return tuple(codes), removed
