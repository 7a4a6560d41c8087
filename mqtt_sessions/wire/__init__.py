"""Packets of MQTT 3.1, 3.1.1 and 5.0: bytes in, events out; actions in, bytes out.

Optional: nothing else in the package imports it, and a broker with a codec of its own goes
without. It reads no socket and knows no session. A broker needs four names:

    decoder = wire.Decoder(wire.Role.SERVER, maximum_packet_size=…, topic_alias_maximum=…)
    encoder = wire.Encoder(connect.protocol_version, cache, topic_alias_maximum=…)

    for item in decoder.feed(data):
        outcome = store.handle(wire.to_event(item, connection), now)
        for action in outcome.actions:
            ...  # write(encoder of action.connection .encode(action)), or close

`size_of` is for `SessionStore(size_of=…)`; `refuse_connect` for what never gets that far.
`Role.CLIENT` and `encode` make the other side, for tests.
"""

from __future__ import annotations

from mqtt_sessions.wire.adapters import Encoder, PublishCache, SendAction, to_event
from mqtt_sessions.wire.decoding import Decoder
from mqtt_sessions.wire.encoding import encode, refuse_connect, size_of
from mqtt_sessions.wire.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    PacketType,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    UserProperties,
    WireError,
)
from mqtt_sessions.wire.tables import Role

__all__ = [
    "Auth",
    "Connack",
    "Connect",
    "Decoder",
    "Disconnect",
    "Encoder",
    "Packet",
    "PacketType",
    "Pingreq",
    "Pingresp",
    "Puback",
    "Pubcomp",
    "Publish",
    "PublishCache",
    "Pubrec",
    "Pubrel",
    "Role",
    "SendAction",
    "Suback",
    "Subscribe",
    "Unsuback",
    "Unsubscribe",
    "UserProperties",
    "WireError",
    "encode",
    "refuse_connect",
    "size_of",
    "to_event",
]
