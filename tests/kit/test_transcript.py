"""A run in words: what a reader gets to see of a failure."""

from __future__ import annotations

from typing import Any

import pytest

from mqtt_sessions import (
    Action,
    ClientConnected,
    CloseConnection,
    ConnectionLost,
    Delivery,
    DisconnectReceived,
    Event,
    ExpiryPolicy,
    MalformedPacketReceived,
    Message,
    MessagePublished,
    PingReceived,
    PubackReceived,
    PublishReceived,
    ReasonCode,
    SendPublish,
    SessionKicked,
    SessionStore,
    SubscribeReceived,
    Subscription,
    Will,
)
from mqtt_sessions.testing.transcript import (
    Failure,
    Step,
    describe,
    sequence_diagram,
    transcript,
)


def run() -> list[Step]:
    """A client that loses its connection, comes back and gets what waited for it."""
    store = SessionStore()
    happened: list[tuple[float, Event | None]] = [
        (0.0, ClientConnected(1, "lamp", session_expiry_interval=60, keep_alive=20)),
        (0.0, SubscribeReceived(1, 7, (Subscription("light/+", 1),))),
        (1.0, MessagePublished(Message("light/hall", b"on", 2, message_expiry_interval=9))),
        (2.5, ConnectionLost(1)),
        (3.0, ClientConnected(2, "lamp", 4, clean_start=False)),
        (3.0, PubackReceived(2, 1)),
        (4.0, None),
    ]
    steps = []
    for at, event in happened:
        outcome = store.handle_timeout(at) if event is None else store.handle(event, at)
        due = store.next_deadline_at
        steps.append(Step(at, event, outcome.actions, outcome.notices, due))
    return steps


TEXT = """\
       0.000  lamp@1 → server  CONNECT version=5 clean_start=yes expiry=60 keep_alive=20
              server → lamp@1  CONNACK session_present=no SUCCESS receive_maximum=100 \
shared_subscription_available=no
                               (SessionCreated lamp)
                               next deadline: 30.000
       0.000  lamp@1 → server  SUBSCRIBE id 7 subscriptions=light/+ QoS 1
              server → lamp@1  SUBACK id 7 GRANTED_QOS_1
                               (FilterAdded topic_filter=light/+)
       1.000  host → server    MessagePublished light/hall "on" QoS 2 expires in=9
              server → lamp@1  PUBLISH id 1 light/hall "on" QoS 1 expires in=9
       2.500  lamp@1 → server  (connection lost)
                               (SessionParked expires_at=62.5 lamp)
                               next deadline: 62.500
       3.000  lamp@2 → server  CONNECT version=4 clean_start=no
              server → lamp@2  CONNACK session_present=yes ACCEPTED
              server → lamp@2  PUBLISH id 1 light/hall "on" QoS 1 dup=yes expires in=7
                               (SessionResumed lamp)
                               next deadline: never
       3.000  lamp@2 → server  PUBACK id 1
       4.000  time passes"""

DIAGRAM = """\
sequenceDiagram
    participant server
    participant host
    participant c1 as lamp@1
    participant c2 as lamp@2
    Note over server: 0.000
    c1->>server: CONNECT version=5 clean_start=yes expiry=60 keep_alive=20
    server->>c1: CONNACK session_present=no SUCCESS receive_maximum=100 \
shared_subscription_available=no
    c1->>server: SUBSCRIBE id 7 subscriptions=light/+ QoS 1
    server->>c1: SUBACK id 7 GRANTED_QOS_1
    Note over server: 1.000
    host->>server: MessagePublished light/hall "on" QoS 2 expires in=9
    server->>c1: PUBLISH id 1 light/hall "on" QoS 1 expires in=9
    Note over server: 2.500
    c1-xserver: (connection lost)
    Note over server: 3.000
    c2->>server: CONNECT version=4 clean_start=no
    server->>c2: CONNACK session_present=yes ACCEPTED
    server->>c2: PUBLISH id 1 light/hall "on" QoS 1 dup=yes expires in=7
    c2->>server: PUBACK id 1
    Note over server: 4.000"""


def test_a_run_in_words() -> None:
    assert [line.rstrip() for line in transcript(run()).splitlines()] == TEXT.splitlines()


def test_a_run_as_a_diagram() -> None:
    assert sequence_diagram(run()) == DIAGRAM


def test_the_line_that_broke_the_rule_is_marked_and_the_rule_stands_below() -> None:
    steps = run()[:5]
    failure = Failure("MQTT-3.3.1-1", "DUP is 0, of Answer(a=1, b=None, c=())", 1)
    text = transcript(steps, failure).splitlines()
    assert [line for line in text if "✗" in line] == [
        '           ✗  server → lamp@2  PUBLISH id 1 light/hall "on" QoS 1 dup=yes expires in=7',
        "           ✗  MQTT-3.3.1-1: DUP is 0, of Answer(a=1)",
    ]
    assert text[-1].startswith("           ✗  MQTT")
    diagram = sequence_diagram(steps, failure).splitlines()
    assert [line for line in diagram if "✗" in line] == [
        '    server->>c2: ✗ PUBLISH id 1 light/hall "on" QoS 1 dup=yes expires in=7',
        "    Note over server: ✗ MQTT-3.3.1-1: DUP is 0, of Answer(a=1)",
    ]


def test_a_notice_can_be_what_broke_the_rule() -> None:
    steps = run()[:1]
    text = transcript(steps, Failure("host", "nobody began", 1))
    assert "           ✗                   (SessionCreated lamp)" in text


def test_what_did_not_come_marks_no_line() -> None:
    text = transcript(run()[:2], Failure("MQTT-3.8.4-1", "SUBACK is missing"))
    assert text.count("✗") == 1


def test_there_need_not_be_any_steps() -> None:
    assert transcript([]) == ""
    assert sequence_diagram([]) == "sequenceDiagram\n    participant server"


def test_what_mermaid_would_take_for_its_own_is_escaped() -> None:
    event = SubscribeReceived(1, 1, (Subscription("a/#", 0), Subscription("b;c\n", 0)))
    diagram = sequence_diagram([Step(0.0, ClientConnected(1, "x;#")), Step(0.0, event)])
    assert "participant c1 as x#59;#35;@1" in diagram
    assert "subscriptions=a/#35; QoS 0, 'b#59;c\\n' QoS 0" in diagram
    assert len(diagram.splitlines()) == 6


def test_a_connection_that_nobody_announced() -> None:
    assert "?@9 → server" in transcript([Step(0.0, PingReceived(9))])


@pytest.mark.parametrize("given", ["hello", 42, None])
def test_what_is_no_action_at_all_is_shown_as_it_is(given: Any) -> None:
    steps = [Step(0.0, PingReceived(1), (given,), (given,))]
    assert describe(given) == repr(given)
    assert repr(given) in transcript(steps)
    assert repr(given) in sequence_diagram(steps)


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b"", '""'),
        (b"on", '"on"'),
        (b"x" * 12, '"xxxxxxxxxxxx"'),
        (b"x" * 13, '"xxxxxxxxxxxx"… 13 bytes'),
        (b"\x00\xff", "0x00ff"),
        (b"\xff" * 6, "0xffffffffffff"),
        (b"\xff" * 7, "0xffffffffffff… 7 bytes"),
    ],
)
def test_payloads_are_shortened(payload: bytes, shown: str) -> None:
    assert describe(MessagePublished(Message("t", payload))).endswith(f" t {shown} QoS 0")


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        (DisconnectReceived(1), "DISCONNECT"),
        (
            DisconnectReceived(1, ReasonCode.DISCONNECT_WITH_WILL_MESSAGE, 0xFFFFFFFF),
            "DISCONNECT DISCONNECT_WITH_WILL_MESSAGE expiry=4294967295",
        ),
        (MalformedPacketReceived(1), "(malformed)"),
        (PingReceived(1, False), "PINGREQ answer=no"),
        (SessionKicked("a"), "SessionKicked"),
        (
            PublishReceived(1, Message("", b"", 1, True), 7, True, ReasonCode.NOT_AUTHORIZED),
            "PUBLISH id 7 '' \"\" QoS 1 RETAIN dup=yes refusal=NOT_AUTHORIZED",
        ),
        (
            ClientConnected(
                1,
                "a",
                will=Will(Message("t", b"w", 1), 20),
                policy=ExpiryPolicy(retry_interval=4.5),
            ),
            "CONNECT version=5 clean_start=yes policy=(retry_interval=4.5) "
            'will=(t "w" QoS 1 delay=20)',
        ),
        (
            SendPublish(1, Delivery(Message("t", b"m", 2), 1, True, (1, 2)), 3, False, None),
            'PUBLISH id 3 t "m" QoS 1 RETAIN ids=1, 2',
        ),
        (CloseConnection(1, ReasonCode.SERVER_SHUTTING_DOWN), "(close) SERVER_SHUTTING_DOWN"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_decisive_fields_alone(what: Event | Action, shown: str) -> None:
    assert describe(what) == shown
