"""The statement that the model names is the one that binds, and not its neighbor."""

from __future__ import annotations

from typing import Any

import pytest

from mqtt_sessions import (
    ClientConnected,
    ConnectionLost,
    ConnectReturnCode,
    DisconnectReceived,
    Message,
    MessagePublished,
    PubackReceived,
    ReasonCode,
    SendConnack,
    SendSuback,
    SendUnsuback,
    SubscribeReceived,
    Subscription,
    UnsubscribeReceived,
    Will,
)
from mqtt_sessions.testing.model import Disagreement

from .test_model_freedom import Table, sent

OK = ReasonCode.SUCCESS
LEFT = Message("t", b"gone", 1)
BOTH = pytest.mark.parametrize("version", [5, 4])


def broken_by(table: Table, output: Any) -> str:
    """The rule against one more thing that the server does."""
    with pytest.raises(Disagreement) as found:
        table.model.observe(output)
    return found.value.rule


def wills(version: int, will: Will, **subscriber: Any) -> Table:
    """Somebody who leaves a will, and somebody who waits for it."""
    table = Table()
    table.connect("s", **subscriber)
    table.subscribe("s", Subscription("t", 1))
    table.connect("w", version, will=will)
    return table


# ---------------------------------------------------------------- wills


@BOTH
def test_will_of_an_open_connection(version: int) -> None:
    rule = broken_by(wills(version, Will(LEFT)), sent("s", LEFT, 1))
    assert rule == ("MQTT-3.1.2-8" if version == 5 else "3.1.1 MQTT-3.1.2-8")


@BOTH
def test_will_after_a_normal_disconnect(version: int) -> None:
    table = wills(version, Will(LEFT))
    table.model.handle(DisconnectReceived("w"), 0.0)
    rule = broken_by(table, sent("s", LEFT, 1))
    assert rule == ("MQTT-3.14.4-3" if version == 5 else "3.1.1 MQTT-3.14.4-3")


@pytest.mark.parametrize(("version", "rule"), [(5, "MQTT-3.1.3-9"), (4, "NN-2.8")])
def test_will_whose_delay_a_resume_ended(version: int, rule: str) -> None:
    table = wills(5, Will(LEFT, 5))
    table.step(ConnectionLost("w"))
    table.connect("w", version)
    assert broken_by(table, sent("s", LEFT, 1)) == rule


@BOTH
@pytest.mark.parametrize("late", [True, False])
def test_will_that_was_published_already(version: int, late: bool) -> None:
    table = wills(version, Will(LEFT))
    table.model.handle(ConnectionLost("w"), 0.0)
    table.model.observe(sent("s", LEFT, 1))
    if late:
        table.model.settle()
        table.step(PubackReceived("s", 1))
        table.connect("w", version)
        table.model.handle(ConnectionLost("w"), 0.0)
    rule = broken_by(table, sent("s", LEFT, 2))
    if late:
        assert rule == ("MQTT-3.1.2-10" if version == 5 else "3.1.1 MQTT-3.1.2-10")
    else:
        assert rule == "MQTT-4.4.0-1"  # the first one is in flight


@BOTH
def test_will_of_a_client_that_was_refused(version: int) -> None:
    table = wills(5, Will(Message("u")))
    wrong = Will(Message("t", b"gone", 1))
    event = ClientConnected("x", "", version, False, will=wrong)
    table.model.handle(event, 0.0)
    assert broken_by(table, sent("s", LEFT, 1)) == (
        "NN-3.4" if version == 5 else "3.1.1 MQTT-3.1.2-8"
    )


@BOTH
def test_will_without_will_retain_that_is_retained(version: int) -> None:
    table = Table()
    table.connect("w", will=Will(LEFT))
    table.step(ConnectionLost("w"))
    rule = called_up(table, version, LEFT)
    assert rule == ("MQTT-3.1.2-14" if version == 5 else "3.1.1 MQTT-3.1.2-16")


@BOTH
def test_will_with_will_retain_that_is_not_retained(version: int) -> None:
    table = Table()
    table.connect("w", will=Will(Message("t", b"gone", 1, retain=True)))
    table.step(ConnectionLost("w"))
    rule = not_called_up(table, version)
    assert rule == ("MQTT-3.1.2-15" if version == 5 else "3.1.1 MQTT-3.1.2-17")


# ---------------------------------------------------------------- retained messages


def ask(table: Table, version: int, subscription: Subscription) -> None:
    if "r" not in table.model.sessions:
        table.connect("r", version)
    table.model.handle(SubscribeReceived("r", 1, (subscription,)), table.now)
    table.model.observe(SendSuback("r", 1, (ReasonCode(subscription.qos),)))


def called_up(
    table: Table, version: int, message: Message, wanted: Subscription | None = None
) -> str:
    """The rule against sending this one to who subscribes now."""
    ask(table, version, wanted or Subscription("t", 1))
    packet_id = 1 if message.qos else None
    return broken_by(table, sent("r", message, packet_id, retain=True, is_retained=True))


def not_called_up(table: Table, version: int, wanted: Subscription | None = None) -> str:
    """The rule that demands to send what is retained."""
    ask(table, version, wanted or Subscription("t", 1))
    with pytest.raises(Disagreement) as found:
        table.model.settle()
    return found.value.rule


OLD = Message("t", b"old", 1, retain=True)


@pytest.mark.parametrize(
    ("then", "v5", "v3"),
    [
        (Message("t", b"", 1, retain=True), "MQTT-3.3.1-6", "MQTT-3.3.1-10"),
        (Message("t", b"new", 1, retain=True), "MQTT-3.3.1-5", "MQTT-3.3.1-5"),
        (Message("t", b"new", 0, retain=True), "MQTT-3.3.1-5", "MQTT-3.3.1-7"),
    ],
)
@BOTH
def test_what_is_not_retained_any_more(version: int, then: Message, v5: str, v3: str) -> None:
    table = Table()
    table.step(MessagePublished(OLD))
    table.step(MessagePublished(then))
    assert called_up(table, version, OLD) == (v5 if version == 5 else f"3.1.1 {v3}")


@pytest.mark.parametrize(
    ("message", "v5", "v3"),
    [
        (Message("t", b"1", 1), "MQTT-3.3.1-8", "MQTT-3.3.1-12"),
        (Message("t", b"", 1, retain=True), "MQTT-3.3.1-7", "MQTT-3.3.1-11"),
    ],
)
@BOTH
def test_what_never_was_retained(version: int, message: Message, v5: str, v3: str) -> None:
    table = Table()
    table.step(MessagePublished(message))
    assert called_up(table, version, message) == (v5 if version == 5 else f"3.1.1 {v3}")


@BOTH
def test_what_was_retained_and_has_expired(version: int) -> None:
    table = Table()
    message = Message("t", b"1", 1, retain=True, message_expiry_interval=3)
    table.step(MessagePublished(message))
    table.wait(3)
    assert called_up(table, version, message) == ("MQTT-3.3.2-5" if version == 5 else "NN-9.3")


KEPT = Message("t", b"kept", 0, retain=True)


def subscribed(version: int) -> Table:
    """Somebody who got a message live that is retained too."""
    table = Table()
    table.connect("r", version)
    table.subscribe("r", Subscription("t", 1))
    table.step(MessagePublished(KEPT), sent("r", KEPT, retain=False))
    return table


@pytest.mark.parametrize(("handling", "rule"), [(1, "MQTT-3.3.1-10"), (2, "MQTT-3.3.1-11")])
def test_what_retain_handling_does_not_call_up(handling: int, rule: str) -> None:
    wanted = Subscription("t", 1, retain_handling=handling)
    assert called_up(subscribed(5), 5, KEPT, wanted) == rule


@BOTH
def test_what_no_subscribe_calls_up(version: int) -> None:
    """What comes on an established subscription has RETAIN 0."""
    table = subscribed(version)
    table.model.handle(MessagePublished(Message("u")), 0.0)
    rule = broken_by(table, sent("r", KEPT, retain=True))
    assert rule == ("MQTT-3.3.1-12" if version == 5 else "3.1.1 MQTT-3.3.1-9")


@pytest.mark.parametrize(("handling", "rule"), [(0, "MQTT-3.3.1-9"), (1, "MQTT-3.3.1-10")])
def test_what_a_new_subscription_calls_up(handling: int, rule: str) -> None:
    table = Table()
    table.step(MessagePublished(OLD))
    assert not_called_up(table, 5, Subscription("t", 1, retain_handling=handling)) == rule


@pytest.mark.parametrize(
    ("again", "rule"), [(False, "3.1.1 MQTT-3.3.1-6"), (True, "3.1.1 MQTT-3.8.4-3")]
)
def test_what_3_1_1_sends_on_each_subscribe(again: bool, rule: str) -> None:
    table = Table()
    table.connect("r", 4)
    if again:
        table.subscribe("r", Subscription("t", 1))
        table.step(MessagePublished(OLD), sent("r", OLD, 1, retain=False))
    else:
        table.step(MessagePublished(OLD))
    assert not_called_up(table, 4) == rule


# ---------------------------------------------------------------- and what is left


@BOTH
def test_a_topic_that_no_filter_matches(version: int) -> None:
    table = Table()
    table.connect("s", version)
    table.subscribe("s", Subscription("t", 1))
    table.model.handle(MessagePublished(Message("u", b"1", 1)), 0.0)
    rule = broken_by(table, sent("s", Message("u", b"1", 1), 1))
    assert rule == ("MQTT-3.3.2-3" if version == 5 else "3.1.1 MQTT-3.3.2-3")


def test_a_message_that_nobody_published_does_match_a_filter() -> None:
    table = Table()
    table.connect("s")
    table.subscribe("s", Subscription("t", 1))
    assert broken_by(table, sent("s", Message("t", b"1", 1), 1)) == "NN-7.1"


@pytest.mark.parametrize(
    ("clean", "present", "rule"),
    [
        (True, True, "MQTT-3.2.2-1"),
        (False, False, "MQTT-3.2.2-2"),
        (False, True, "MQTT-3.2.2-3"),
    ],
)
def test_session_present_of_3_1_1(clean: bool, present: bool, rule: str) -> None:
    table = Table()
    if rule == "MQTT-3.2.2-2":
        table.connect("s", 4)
        table.step(ConnectionLost("s"))
    table.model.handle(ClientConnected("s", "s", 4, clean), 0.0)
    connack = SendConnack("s", present, ConnectReturnCode.ACCEPTED)
    assert broken_by(table, connack) == f"3.1.1 {rule}"


@pytest.mark.parametrize(
    ("codes", "v5", "v3"),
    [
        ((0,), "MQTT-3.8.4-6", "MQTT-3.8.4-5"),
        ((1, 0), "MQTT-3.9.3-1", "MQTT-3.9.3-1"),
        ((2, 1), "MQTT-3.8.4-7", "MQTT-3.8.4-5"),
        ((0, 0x11), "MQTT-3.9.3-2", "MQTT-3.9.3-2"),
    ],
)
@BOTH
def test_codes_of_suback(version: int, codes: tuple[int, ...], v5: str, v3: str) -> None:
    table = Table()
    table.connect("s", version)
    wanted = Subscription("t", 0), Subscription("u", 1)
    table.model.handle(SubscribeReceived("s", 1, wanted), 0.0)
    rule = broken_by(table, SendSuback("s", 1, tuple(ReasonCode(each) for each in codes)))
    assert rule == (v5 if version == 5 else f"3.1.1 {v3}")


def test_a_failure_code_of_5_0_is_none_of_3_1_1() -> None:
    table = Table()
    table.connect("s", 4)
    table.model.handle(SubscribeReceived("s", 1, (Subscription("t", 1),)), 0.0)
    rule = broken_by(table, SendSuback("s", 1, (ReasonCode.NOT_AUTHORIZED,)))
    assert rule == "3.1.1 MQTT-3.9.3-2"


@pytest.mark.parametrize(
    ("codes", "rule"),
    [
        ((0x00,), "MQTT-3.11.3-2"),
        ((0x11, 0x00), "MQTT-3.11.3-1"),
        ((0x11, 0x11), "MQTT-3.10.4-1"),
        ((0x00, 0x00), "MQTT-3.11.3-2"),
    ],
)
def test_codes_of_unsuback(codes: tuple[int, ...], rule: str) -> None:
    table = Table()
    table.connect("s")
    table.subscribe("s", Subscription("t", 1))
    table.model.handle(UnsubscribeReceived("s", 2, ("t", "u")), 0.0)
    unsuback = SendUnsuback("s", 2, tuple(ReasonCode(each) for each in codes))
    assert broken_by(table, unsuback) == rule
