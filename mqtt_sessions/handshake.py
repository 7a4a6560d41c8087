"""CONNECT and CONNACK: who is refused and how, and what the server tells.

Spec: MQTT 5.0 §3.1.4, §3.2; MQTT 3.1.1 §3.1.4, §3.2.
"""

from __future__ import annotations

import math
from enum import Enum, unique

from mqtt_sessions.actions import CloseConnection, SendConnack
from mqtt_sessions.events import ClientConnected
from mqtt_sessions.notices import ClientRefused
from mqtt_sessions.policy import NEVER_ON_WIRE, ServerOptions, SessionLimits
from mqtt_sessions.reason_codes import ConnectReturnCode, ReasonCode
from mqtt_sessions.state import SessionState
from mqtt_sessions.topics import is_encodable, is_valid_topic
from mqtt_sessions.turn import Turn

__all__ = ["Refusal", "connack", "examine", "refuse_connect"]

_MQTT_31_CLIENT_ID_LENGTH = 23


@unique
class Refusal(Enum):
    """Why a CONNECT is refused: the code of 5.0 and that of 3.x, None: close without CONNACK."""

    CLIENT_ID = (ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, ConnectReturnCode.IDENTIFIER_REJECTED)
    PRINCIPAL = (ReasonCode.NOT_AUTHORIZED, ConnectReturnCode.NOT_AUTHORIZED)
    SESSIONS = (ReasonCode.QUOTA_EXCEEDED, ConnectReturnCode.SERVER_UNAVAILABLE)
    ZERO_MAXIMUM = (ReasonCode.PROTOCOL_ERROR, None)
    WILL_TOPIC = (ReasonCode.TOPIC_NAME_INVALID, None)
    WILL_QOS = (ReasonCode.QOS_NOT_SUPPORTED, None)
    WILL_RETAIN = (ReasonCode.RETAIN_NOT_SUPPORTED, None)


def examine(
    event: ClientConnected,
    session: SessionState | None,
    options: ServerOptions,
    limits: SessionLimits,
) -> Refusal | None:
    """Why this CONNECT is refused; None: it is not. Touches nothing [NN-3.4].

    *Cost* O(length of client id and will topic).
    """
    if not _is_client_id_accepted(event, event.limits or limits):
        return Refusal.CLIENT_ID
    if event.receive_maximum == 0 or event.maximum_packet_size == 0:
        return Refusal.ZERO_MAXIMUM  # 3.1.2.11.3, 3.1.2.11.4
    if event.will is not None:
        will = event.will.message
        if not is_valid_topic(will.topic_name):
            return Refusal.WILL_TOPIC
        if event.protocol_version == 5 and will.qos > options.maximum_qos:
            return Refusal.WILL_QOS  # MQTT-3.2.2-12
        if event.protocol_version == 5 and will.retain and not options.retain_available:
            return Refusal.WILL_RETAIN  # MQTT-3.2.2-13
    bound_to = None if session is None else session.principal
    if bound_to is not None and bound_to != event.principal:
        return Refusal.PRINCIPAL
    return None


def _is_client_id_accepted(event: ClientConnected, limits: SessionLimits) -> bool:
    client_id = event.client_id
    if not is_encodable(client_id):
        return False  # MQTT-1.5.4-1
    if not client_id:
        if event.protocol_version == 3:
            return False  # MQTT 3.1: 1 to 23 characters
        if event.protocol_version == 4 and not event.clean_start:
            return False  # 3.1.1 MQTT-3.1.3-7, 3.1.1 MQTT-3.1.3-8
        return event.assigned_client_id is not None  # MQTT-3.1.3-6
    if event.protocol_version == 3 and len(client_id) > _MQTT_31_CLIENT_ID_LENGTH:
        return False
    maximum = limits.maximum_client_id_length  # 23 or more: MQTT-3.1.3-5
    return maximum is None or len(client_id) <= maximum


def refuse_connect(event: ClientConnected, refusal: Refusal, turn: Turn) -> None:
    """Say no and close [MQTT-3.2.2-7]; Session Present is 0 [MQTT-3.2.2-6].

    By CONNACK or not at all, never by DISCONNECT [MQTT-3.14.0-1].
    """
    reason_code, return_code = refusal.value
    said = reason_code if event.protocol_version == 5 else return_code
    if said is not None:
        turn.actions.append(SendConnack(event.connection, False, said))
    turn.actions.append(CloseConnection(event.connection, reason_code))
    turn.notices.append(ClientRefused(event.connection, event.client_id, reason_code))


def connack(
    event: ClientConnected, resumed: bool, session: SessionState, options: ServerOptions
) -> SendConnack:
    """CONNACK of an accepted CONNECT, with what a 5.0 client has to be told.

    The only one of its connection [MQTT-3.2.0-2]; Session Present says whether there was a
    session, be there anything in it or not [NN-2.1], and none is left after Clean Start [NN-2.2].

    Spec: MQTT 5.0 §3.1.4 [MQTT-3.1.4-5], §3.2.2 [MQTT-3.2.2-2], [MQTT-3.2.2-3]; MQTT 3.1 has no
    Session Present bit.
    """
    if event.protocol_version < 5:
        present = resumed and event.protocol_version == 4
        return SendConnack(event.connection, present, ConnectReturnCode.ACCEPTED)
    interval = session.expiry_interval
    # NN-1.2: four bytes; what does not fit in them is never, as far as a client can tell
    in_force = NEVER_ON_WIRE if interval is None else min(math.ceil(interval), NEVER_ON_WIRE)
    asked = event.session_expiry_interval or 0
    return SendConnack(
        event.connection,
        resumed,
        ReasonCode.SUCCESS,
        None if in_force == asked else in_force,
        None if options.receive_maximum == 65_535 else options.receive_maximum,
        None if options.maximum_qos == 2 else options.maximum_qos,  # MQTT-3.2.2-9
        None if options.retain_available else False,
        options.maximum_packet_size,
        None if event.client_id else session.client_id,
        options.topic_alias_maximum or None,
        options.server_keep_alive,
        False,
    )
