"""Against paho-mqtt over loopback: each side reads what the other has written.

paho is driven by hand (`loop_read`, `loop_write`), so nothing here waits for time to pass.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from mqtt_sessions import wire
from mqtt_sessions.actions import SendPublish
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.reason_codes import ConnectReturnCode, ReasonCode
from mqtt_sessions.subscriptions import Subscription

paho = pytest.importorskip("paho.mqtt.client")
from paho.mqtt.enums import CallbackAPIVersion  # noqa: E402
from paho.mqtt.packettypes import PacketTypes  # noqa: E402
from paho.mqtt.properties import Properties  # noqa: E402
from paho.mqtt.reasoncodes import ReasonCode as PahoCode  # noqa: E402
from paho.mqtt.subscribeoptions import SubscribeOptions  # noqa: E402

PROTOCOLS = {3: paho.MQTTv31, 4: paho.MQTTv311, 5: paho.MQTTv5}
FAILS_AFTER = 60  # seconds until a missing byte is a failure, not a hang


def properties(kind: int, **values: Any) -> Any:
    made = Properties(kind)
    for name, content in values.items():
        setattr(made, name, content)
    return made


class Conversation:
    """One paho client, and our decoder and encoder at the other end of its socket."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.heard: list[tuple[Any, ...]] = []
        options = {"clean_session": True} if version < 5 else {}
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, "me", protocol=PROTOCOLS[version], **options
        )
        self.client.on_connect = lambda c, u, flags, code, props: self.heard.append(
            ("connect", flags.session_present, code.value, props)
        )
        self.client.on_message = lambda c, u, message: self.heard.append(("message", message))
        self.client.on_publish = lambda c, u, mid, code, props: self.heard.append(
            ("publish", mid, code.value)
        )
        self.client.on_subscribe = lambda c, u, mid, codes, props: self.heard.append(
            ("subscribe", mid, [code.value for code in codes])
        )
        self.client.on_unsubscribe = lambda c, u, mid, codes, props: self.heard.append(
            ("unsubscribe", mid, [code.value for code in codes])
        )
        self.client.on_disconnect = lambda c, u, flags, code, props: self.heard.append(
            ("disconnect", flags.is_disconnect_packet_from_server, code.value)
        )
        self.decoder = wire.Decoder(wire.Role.SERVER, topic_alias_maximum=10)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.server: socket.socket | None = None

    def connect(self, **options: Any) -> Any:
        host, port = self.listener.getsockname()
        self.client.connect(host, port, keepalive=30, **options)
        self.server, _ = self.listener.accept()
        self.server.settimeout(FAILS_AFTER)
        return self.receive()

    def receive(self) -> Any:
        """The next packet from paho; there must be exactly one."""
        assert self.server is not None
        while self.client.want_write():
            self.client.loop_write()
        items: list[Any] = []
        while not items:
            data = self.server.recv(65_536)
            assert data
            items = self.decoder.feed(data)
        [item] = items
        return item

    def send(self, data: bytes) -> tuple[Any, ...]:
        """Send to paho what it answers by a callback; return what the callback got."""
        assert self.server is not None
        self.server.sendall(data)
        self.client.socket().settimeout(FAILS_AFTER)
        before = len(self.heard)
        while len(self.heard) == before:
            result = self.client.loop_read()
            assert result == paho.MQTT_ERR_SUCCESS or len(self.heard) > before
        return self.heard[-1]

    def reply(self, packet: wire.Packet) -> tuple[Any, ...]:
        return self.send(wire.encode(packet, self.version))

    def accept(self) -> tuple[Any, ...]:
        accepted = ReasonCode.SUCCESS if self.version == 5 else ConnectReturnCode.ACCEPTED
        return self.reply(wire.Connack(False, accepted))

    def close(self) -> None:
        self.client.disconnect()
        if self.client.socket() is not None:
            while self.client.want_write():
                self.client.loop_write()
            self.client.socket().close()
        if self.server is not None:
            self.server.close()
        self.listener.close()


@pytest.fixture(params=[3, 4, 5])
def conversation(request: pytest.FixtureRequest) -> Iterator[Conversation]:
    made = Conversation(request.param)
    yield made
    made.close()


@pytest.fixture
def modern() -> Iterator[Conversation]:
    made = Conversation(5)
    yield made
    made.close()


def test_connect_of_paho(conversation: Conversation) -> None:
    conversation.client.username_pw_set("user", "pass")
    conversation.client.will_set("will/topic", b"bye", 1, True)
    packet = conversation.connect()
    assert packet == wire.Connect(
        "me",
        conversation.version,
        True,
        30,
        Will(Message("will/topic", b"bye", 1, True)),
        "user",
        b"pass",
    )
    assert conversation.accept()[:3] == ("connect", False, 0)


def test_connect_of_paho_with_properties(modern: Conversation) -> None:
    will = properties(
        PacketTypes.WILLMESSAGE,
        WillDelayInterval=5,
        MessageExpiryInterval=60,
        ContentType="text/plain",
        UserProperty=("k", "v"),
    )
    modern.client.will_set("w", b"bye", 2, False, will)
    packet = modern.connect(
        clean_start=False,
        properties=properties(
            PacketTypes.CONNECT,
            SessionExpiryInterval=3600,
            ReceiveMaximum=20,
            MaximumPacketSize=5000,
            TopicAliasMaximum=7,
            RequestProblemInformation=0,
            RequestResponseInformation=1,
            UserProperty=[("a", "1"), ("a", "2")],
            AuthenticationMethod="SCRAM",
            AuthenticationData=b"data",
        ),
    )
    message = Message("w", b"bye", 2, False, 60, None, "text/plain", user_properties=(("k", "v"),))
    assert packet == wire.Connect(
        client_id="me",
        clean_start=False,
        keep_alive=30,
        will=Will(message, 5),
        session_expiry_interval=3600,
        receive_maximum=20,
        maximum_packet_size=5000,
        topic_alias_maximum=7,
        request_response_information=True,
        request_problem_information=False,
        user_properties=(("a", "1"), ("a", "2")),
        authentication_method="SCRAM",
        authentication_data=b"data",
    )


def test_connack_for_paho_with_properties(modern: Conversation) -> None:
    modern.connect(clean_start=False)
    _, present, code, told = modern.reply(
        wire.Connack(
            True,
            ReasonCode.SUCCESS,
            session_expiry_interval=60,
            receive_maximum=10,
            maximum_qos=1,
            retain_available=False,
            maximum_packet_size=1000,
            assigned_client_identifier="given",
            topic_alias_maximum=5,
            reason_string="why",
            user_properties=(("k", "v"),),
            wildcard_subscription_available=True,
            subscription_identifier_available=True,
            shared_subscription_available=False,
            server_keep_alive=30,
            response_information="info",
            server_reference="other",
            authentication_method="m",
            authentication_data=b"d",
        )
    )
    assert (present, code) == (True, 0)
    assert told.json() == {
        "SessionExpiryInterval": 60,
        "ReceiveMaximum": 10,
        "MaximumQoS": 1,
        "RetainAvailable": 0,
        "MaximumPacketSize": 1000,
        "AssignedClientIdentifier": "given",
        "TopicAliasMaximum": 5,
        "ReasonString": "why",
        "UserProperty": [("k", "v")],
        "WildcardSubscriptionAvailable": 1,
        "SubscriptionIdentifierAvailable": 1,
        "SharedSubscriptionAvailable": 0,
        "ServerKeepAlive": 30,
        "ResponseInformation": "info",
        "ServerReference": "other",
        "AuthenticationMethod": "m",
        "AuthenticationData": b"d",
    }


def test_publish_of_paho_at_every_qos(conversation: Conversation) -> None:
    conversation.connect()
    conversation.accept()
    for qos in (0, 1, 2):
        conversation.client.publish("töpic/ü", b"\0payload" * 50, qos, retain=qos == 1)
        packet = conversation.receive()
        message = Message("töpic/ü", b"\0payload" * 50, qos, qos == 1)
        assert packet == wire.Publish(message, packet.packet_id)
        assert (packet.packet_id is None) == (qos == 0)
        if qos == 1:
            heard = conversation.reply(wire.Puback(packet.packet_id))
            assert heard == ("publish", packet.packet_id, 0)
        elif qos == 2:
            assert conversation.server is not None
            pubrec = wire.encode(wire.Pubrec(packet.packet_id), conversation.version)
            conversation.server.sendall(pubrec)
            conversation.client.loop_read()
            assert conversation.receive() == wire.Pubrel(packet.packet_id)
            heard = conversation.reply(wire.Pubcomp(packet.packet_id))
            assert heard == ("publish", packet.packet_id, 0)


def test_publish_of_paho_with_properties(modern: Conversation) -> None:
    modern.connect()
    modern.accept()
    told = properties(
        PacketTypes.PUBLISH,
        PayloadFormatIndicator=1,
        MessageExpiryInterval=60,
        TopicAlias=3,
        ResponseTopic="answer",
        CorrelationData=b"id",
        UserProperty=[("a", "1"), ("a", "2")],
        ContentType="text",
    )
    modern.client.publish("t/1", b"p", 1, properties=told)
    packet = modern.receive()
    user_properties = (("a", "1"), ("a", "2"))
    message = Message("t/1", b"p", 1, False, 60, 1, "text", "answer", b"id", user_properties)
    assert packet == wire.Publish(message, packet.packet_id, topic_alias=3)
    refused = wire.Puback(packet.packet_id, ReasonCode.QUOTA_EXCEEDED, "full", (("k", "v"),))
    assert modern.reply(refused) == ("publish", packet.packet_id, 0x97)


def test_publish_for_paho(conversation: Conversation) -> None:
    conversation.connect()
    conversation.accept()
    message = Message("täpic", b"p" * 300, 2, True, 60, 1, "text", "answer", b"id", (("a", "1"),))
    encoder = wire.Encoder(conversation.version, wire.PublishCache())
    for qos, packet_id in ((0, None), (1, 9)):
        delivery = Delivery(message, qos, True, (1, 200_000), message_expiry_interval=60)
        heard = conversation.send(
            encoder.encode(SendPublish(1, delivery, packet_id, bool(qos), 55))
        )
        got = heard[1]
        assert (got.topic, got.payload, got.qos) == ("täpic", b"p" * 300, qos)
        assert (got.retain, bool(got.dup)) == (True, bool(qos))
        if qos:
            assert got.mid == packet_id
            assert conversation.receive() == wire.Puback(9)
        if conversation.version == 5:
            assert got.properties.json() == {
                "PayloadFormatIndicator": 1,
                "MessageExpiryInterval": 55,
                "ContentType": "text",
                "ResponseTopic": "answer",
                "CorrelationData": "6964",
                "UserProperty": [("a", "1")],
                "SubscriptionIdentifier": [1, 200_000],
            }


def test_qos_2_for_paho(conversation: Conversation) -> None:
    conversation.connect()
    conversation.accept()
    assert conversation.server is not None
    publish = wire.Publish(Message("t", b"p", 2), 9)
    conversation.server.sendall(wire.encode(publish, conversation.version))
    conversation.client.loop_read()
    assert conversation.receive() == wire.Pubrec(9)
    heard = conversation.reply(wire.Pubrel(9))
    assert (heard[0], heard[1].payload) == ("message", b"p")
    assert conversation.receive() == wire.Pubcomp(9)


def test_subscribe_and_unsubscribe_of_paho(conversation: Conversation) -> None:
    conversation.connect()
    conversation.accept()
    _, packet_id = (
        conversation.client.subscribe([("a/#", 2), ("b/+", 1)])
        if (conversation.version < 5)
        else conversation.client.subscribe(
            [("a/#", SubscribeOptions(2)), ("b/+", SubscribeOptions(1))]
        )
    )
    packet = conversation.receive()
    assert packet == wire.Subscribe(packet_id, (Subscription("a/#", 2), Subscription("b/+", 1)))
    codes = (ReasonCode.GRANTED_QOS_2, ReasonCode.GRANTED_QOS_1)
    assert conversation.reply(wire.Suback(packet_id, codes)) == ("subscribe", packet_id, [2, 1])
    _, packet_id = conversation.client.unsubscribe(["a/#", "b/+"])
    assert conversation.receive() == wire.Unsubscribe(packet_id, ("a/#", "b/+"))
    codes = (ReasonCode.SUCCESS, ReasonCode.NO_SUBSCRIPTION_EXISTED)
    heard = conversation.reply(wire.Unsuback(packet_id, codes))
    assert heard == ("unsubscribe", packet_id, [0, 17] if conversation.version == 5 else [])


def test_subscribe_options_of_paho(modern: Conversation) -> None:
    modern.connect()
    modern.accept()
    options = SubscribeOptions(1, noLocal=True, retainAsPublished=True, retainHandling=2)
    told = properties(
        PacketTypes.SUBSCRIBE, SubscriptionIdentifier=200_000, UserProperty=("k", "v")
    )
    _, packet_id = modern.client.subscribe([("a", options)], properties=told)
    expected = Subscription("a", 1, True, True, 2, 200_000)
    assert modern.receive() == wire.Subscribe(packet_id, (expected,), (("k", "v"),))
    suback = wire.Suback(packet_id, (ReasonCode.NOT_AUTHORIZED,), "no", (("k", "v"),))
    assert modern.reply(suback) == ("subscribe", packet_id, [0x87])


def test_ping_of_paho(conversation: Conversation) -> None:
    conversation.connect()
    conversation.accept()
    conversation.client._send_pingreq()
    assert conversation.receive() == wire.Pingreq()
    assert conversation.server is not None
    conversation.server.sendall(wire.encode(wire.Pingresp(), conversation.version))
    assert conversation.client.loop_read() == paho.MQTT_ERR_SUCCESS


def test_disconnect_of_paho(conversation: Conversation) -> None:
    conversation.connect()
    conversation.accept()
    conversation.client.disconnect()
    assert conversation.receive() == wire.Disconnect()


def test_disconnect_of_paho_with_properties(modern: Conversation) -> None:
    modern.connect()
    modern.accept()
    code = PahoCode(PacketTypes.DISCONNECT, "Disconnect with will message")
    told = properties(PacketTypes.DISCONNECT, SessionExpiryInterval=5, ReasonString="bye")
    modern.client.disconnect(code, told)
    expected = wire.Disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE, 5, "bye")
    assert modern.receive() == expected


def test_disconnect_for_paho(modern: Conversation) -> None:
    modern.connect()
    modern.accept()
    packet = wire.Disconnect(ReasonCode.SESSION_TAKEN_OVER, reason_string="elsewhere")
    assert modern.reply(packet) == ("disconnect", True, 0x8E)


@pytest.mark.parametrize(
    ("version", "code", "understood"), [(4, 0x05, 0x87), (3, 0x02, 0x85), (5, 0x86, 0x86)]
)
def test_a_refusal_for_paho(version: int, code: int, understood: int) -> None:
    made = Conversation(version)
    try:
        made.connect()
        reason = ReasonCode(code) if version == 5 else ConnectReturnCode(code)
        made.reply(wire.Connack(False, reason))
        assert made.heard[0][2] == understood
    finally:
        made.close()
