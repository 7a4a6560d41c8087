"""What the standard leaves free the model accepts, and what it says the model wants, by hand."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from mqtt_sessions import (
    Action,
    ClientConnected,
    CloseConnection,
    ConnectionLost,
    ConnectReturnCode,
    Delivery,
    DisconnectReceived,
    DropReason,
    ExpiryPolicy,
    Message,
    MessageDropped,
    MessagePublished,
    Notice,
    PubackReceived,
    PublishReceived,
    PubrecReceived,
    ReasonCode,
    SendConnack,
    SendDisconnect,
    SendPuback,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    ServerOptions,
    SessionLimits,
    SubscribeReceived,
    Subscription,
    Will,
)
from mqtt_sessions.testing.model import Disagreement, Model

KIT = Path(__file__).parent.parent.parent / "mqtt_sessions" / "testing"
VALUES = {
    "actions",
    "events",
    "messages",
    "notices",
    "policy",
    "reason_codes",
    "subscriptions",
}
OK = ReasonCode.SUCCESS
NOBODY = ReasonCode.NO_MATCHING_SUBSCRIBERS


@pytest.mark.parametrize("path", sorted(KIT.glob("model*.py")), ids=lambda path: path.stem)
def test_model_knows_nothing_of_the_core_but_values(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mqtt_sessions"):
            name = (node.module or "").removeprefix("mqtt_sessions").lstrip(".")
            assert name in VALUES or name.startswith("testing.model"), f"it imports {node.module}"
        if isinstance(node, ast.Attribute):
            # The policy is data: what it comes to is worked out anew
            methods = {"at_connect", "at_disconnect", "message_lifetime", "told_message_expiry"}
            assert node.attr not in methods, f"it asks the policy: {node.attr}"


class Table:
    """A model, and a server that is played by hand."""

    def __init__(self, **settings: Any) -> None:
        self.model = Model(**settings)
        self.now = 0.0

    def step(self, event: Any, *outputs: Action | Notice) -> None:
        """One event, and what the server does about it."""
        self.model.handle(event, self.now)
        for output in outputs:
            self.model.observe(output)
        self.model.settle()

    def wait(self, seconds: float, *outputs: Action | Notice) -> None:
        """Time passes."""
        self.now += seconds
        self.model.handle_timeout(self.now)
        for output in outputs:
            self.model.observe(output)
        self.model.settle()

    def connect(self, name: str, version: int = 5, **fields: Any) -> None:
        """A client comes, and its session is kept."""
        present = name in self.model.sessions and not fields.get("clean_start", False)
        fields.setdefault("clean_start", False)
        if version == 5:
            fields.setdefault("session_expiry_interval", 100)
        after = fields.pop("after", ())
        connack = SendConnack(name, present, OK, receive_maximum=100)
        if version < 5:
            connack = SendConnack(name, present, ConnectReturnCode.ACCEPTED)
        self.step(ClientConnected(name, name, version, **fields), connack, *after)

    def subscribe(self, name: str, *subscriptions: Subscription) -> None:
        """Whatever is asked for is granted."""
        codes = tuple(ReasonCode(each.qos) for each in subscriptions)
        self.step(SubscribeReceived(name, 1, subscriptions), SendSuback(name, 1, codes))


def sent(name: str, message: Message, packet_id: int | None = None, **fields: Any) -> SendPublish:
    """A PUBLISH of a live message."""
    dup, told = fields.pop("dup", False), fields.pop("told", message.message_expiry_interval)
    return SendPublish(name, Delivery(message, message.qos, **fields), packet_id, dup, told)


def numbered(topic_name: str, qos: int, count: int) -> list[Message]:
    return [Message(topic_name, b"%d" % number, qos) for number in range(count)]


def waiting(*messages: tuple[str, Message]) -> Table:
    """A session that was away while publishers published."""
    table = Table()
    for name in ("s", *sorted({each[0] for each in messages})):
        table.connect(name)
    table.subscribe("s", Subscription("#", 2))
    table.step(ConnectionLost("s"))
    for number, (name, message) in enumerate(messages, 1):
        kind = SendPuback if message.qos == 1 else SendPubrec
        answer = [kind(name, number, OK)] if message.qos else []
        packet_id = number if message.qos else None
        table.step(PublishReceived(name, message, packet_id), *answer)
    return table


# ---------------------------------------------------------------- what is free


@pytest.mark.parametrize("ids", [(1, 2), (2, 1), (65_535, 7)])
def test_any_identifier_that_is_not_in_use(ids: tuple[int, int]) -> None:
    first, second = numbered("t", 1, 2)
    table = waiting(("p", first), ("p", second))
    table.connect("s", after=[sent("s", first, ids[0]), sent("s", second, ids[1])])


def test_order_between_publishers_topics_and_qos_is_free() -> None:
    messages = [Message("a", b"1", 1), Message("b", b"2", 1), Message("a", b"3", 2)]
    other = Message("a", b"4", 1)
    table = waiting(*(("p", each) for each in messages), ("q", other))
    order = [other, messages[2], messages[1], messages[0]]
    table.connect("s", after=[sent("s", each, number) for number, each in enumerate(order, 1)])


def test_order_of_one_publisher_on_one_topic_at_one_qos_is_not() -> None:
    first, second = numbered("t", 1, 2)
    table = waiting(("p", first), ("p", second))
    with pytest.raises(Disagreement) as found:
        table.connect("s", after=[sent("s", second, 1), sent("s", first, 2)])
    assert found.value.rule == "MQTT-4.6.0-5"


@pytest.mark.parametrize("code", [OK, NOBODY])
def test_a_server_need_not_know_that_nobody_subscribes(code: ReasonCode) -> None:
    table = Table()
    table.connect("p")
    table.step(PublishReceived("p", Message("t", b"1", 1), 1), SendPuback("p", 1, code))


def test_a_server_that_says_nobody_subscribes_has_to_be_right() -> None:
    table = Table()
    table.connect("p")
    table.subscribe("p", Subscription("t"))
    with pytest.raises(Disagreement) as found:
        table.step(PublishReceived("p", Message("t", b"1", 1), 1), SendPuback("p", 1, NOBODY))
    assert found.value.rule == "MQTT-4.3.2-4"


@pytest.mark.parametrize("early", [True, False])
def test_retained_messages_may_come_before_suback(early: bool) -> None:
    table = Table()
    table.connect("s")
    message = Message("t", b"1", 1, retain=True)
    table.step(MessagePublished(message))
    suback = SendSuback("s", 1, (ReasonCode.GRANTED_QOS_1,))
    publish = sent("s", message, 1, retain=True, is_retained=True)
    event = SubscribeReceived("s", 1, (Subscription("t", 1),))
    table.step(event, *((publish, suback) if early else (suback, publish)))


@pytest.mark.parametrize("told", [1, 3])
def test_a_re_sent_message_tells_what_is_left_or_what_it_told_before(told: int) -> None:
    """NN-8.6: both are seen."""
    message = Message("t", b"1", 1, message_expiry_interval=3)
    table = waiting(("p", message))
    table.connect("s", after=[sent("s", message, 5)])
    table.step(ConnectionLost("s"))
    table.wait(60)
    table.connect("s", after=[sent("s", message, 5, dup=True, told=told)])


# ---------------------------------------------------------------- what is owed


def test_what_waited_and_was_not_sent_is_a_loss() -> None:
    first, second = numbered("t", 1, 2)
    table = waiting(("p", first), ("p", second))
    with pytest.raises(Disagreement) as found:
        table.connect("s", after=[sent("s", first, 1)])
    assert found.value.rule == "MQTT-4.5.0-1"


def test_a_drop_that_nothing_allows_is_a_loss_too() -> None:
    (message,) = numbered("t", 1, 1)
    table = waiting(("p", message))
    drop = MessageDropped("s", Delivery(message, 1), DropReason.QUEUE_FULL)
    with pytest.raises(Disagreement) as found:
        table.connect("s", after=[drop])
    assert found.value.rule == "MQTT-4.5.0-1"


def test_window_and_what_is_owed_as_units_come_back() -> None:
    first, second = numbered("t", 1, 2)
    table = waiting(("p", first), ("p", second))
    table.connect("s", receive_maximum=1, after=[sent("s", first, 1)])
    with pytest.raises(Disagreement) as found:
        table.model.observe(sent("s", second, 2))
    assert found.value.rule == "MQTT-4.9.0-2"
    table.step(PubackReceived("s", 1), sent("s", second, 2))


def test_a_unit_does_not_come_back_with_pubrec() -> None:
    first, second = numbered("t", 2, 2)
    table = waiting(("p", first), ("p", second))
    table.connect("s", receive_maximum=1, after=[sent("s", first, 1)])
    table.model.handle(PubrecReceived("s", 1), 0.0)
    table.model.observe(SendPubrel("s", 1, OK))
    with pytest.raises(Disagreement) as found:
        table.model.observe(sent("s", second, 2))
    assert found.value.rule == "MQTT-4.9.0-2"


def test_an_expired_message_is_not_sent_and_its_deadline_is_known() -> None:
    message = Message("t", b"1", 1, message_expiry_interval=3)
    table = waiting(("p", message))
    assert table.model.next_deadline_at == 3.0
    table.wait(3)
    with pytest.raises(Disagreement) as found:
        table.connect("s", after=[sent("s", message, 1, told=1)])
    assert found.value.rule == "MQTT-3.3.2-5"


def test_a_will_is_due_at_its_instant_and_not_before() -> None:
    will = Message("t", b"gone", 0)
    for seconds, rule in ((4.0, "MQTT-3.1.2-8"), (5.0, None)):
        table = Table()
        table.connect("s")
        table.subscribe("s", Subscription("t"))
        table.connect("w", will=Will(will, 5))
        table.step(ConnectionLost("w"))
        assert table.model.next_deadline_at == 5.0
        if rule is None:
            table.wait(seconds, sent("s", will))
            continue
        with pytest.raises(Disagreement) as found:
            table.wait(seconds, sent("s", will))
        assert found.value.rule == rule


def test_a_will_that_is_not_published_is_named_as_one() -> None:
    table = Table()
    table.connect("s")
    table.subscribe("s", Subscription("t"))
    table.connect("w", will=Will(Message("t", b"gone")))
    with pytest.raises(Disagreement) as found:
        table.step(DisconnectReceived("w", 0x04), CloseConnection("w", OK))
    assert found.value.rule == "MQTT-3.1.2-8"
    assert "gone" not in found.value.detail  # no payload is shown
    assert str(found.value).startswith("MQTT-3.1.2-8: ")


@pytest.mark.parametrize(("version", "rule"), [(5, "MQTT-3.1.4-3"), (4, "3.1.1 MQTT-3.1.4-2")])
def test_rules_are_those_of_the_version(version: int, rule: str) -> None:
    table = Table()
    table.connect("a", version)
    event = ClientConnected("again", "a", clean_start=True)
    with pytest.raises(Disagreement) as found:
        table.step(event, SendConnack("again", False, OK, receive_maximum=100))
    assert found.value.rule == rule


def test_a_5_0_client_is_told_why() -> None:
    table = Table()
    table.connect("a")
    event = ClientConnected("again", "a", clean_start=True)
    taken = SendDisconnect("a", ReasonCode.SESSION_TAKEN_OVER)
    close = CloseConnection("a", ReasonCode.SESSION_TAKEN_OVER)
    connack = SendConnack("again", False, OK, receive_maximum=100)
    table.step(event, taken, close, connack)


def test_what_cannot_happen_is_the_drivers_fault() -> None:
    model = Model(ExpiryPolicy(), SessionLimits(), ServerOptions())
    with pytest.raises(ValueError, match="never announced"):
        model.handle(PubackReceived("nobody", 1), 0.0)
