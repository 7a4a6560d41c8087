"""The tables, as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import StringIO

from rich.console import Console, RenderableType

from mqtt_sessions.changes import RetainedStored, Stored, SubscriptionStored, WillStored
from mqtt_sessions.inspect import look_up, summarize, tables
from mqtt_sessions.journals import Quarantined
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.subscriptions import Subscription
from tests.inspect.helpers import NOW, ROWS, DeliveryStored, session

HOSTILE = "\x1b[2J[red]:smile:[/]\n\u202e"
SHOWN = "\\x1b[2J[red]:smile:[/]\\n\\u202e"


def lines(parts: Iterator[RenderableType], width: int = 160) -> list[str]:
    """As a terminal gets them, blanks and borders squeezed."""
    console = Console(file=StringIO(), record=True, width=width, highlight=False)
    for part in parts:
        console.print(part)
    text = console.export_text()
    assert text.replace("\n", "").isprintable()
    return [re.sub(r"[\s│┃]+", " ", line).strip() for line in text.splitlines()]


def journal(
    rows: Sequence[Stored], quarantine: Sequence[tuple[Quarantined, bool]] = (), limit: int = 50
) -> list[str]:
    return lines(tables.of_journal("f.db", summarize(rows, NOW, limit), quarantine, limit))


def client(rows: Sequence[Stored], client_id: str, limit: int = 50) -> list[str]:
    report = look_up(rows, client_id, NOW)
    assert report is not None
    return lines(tables.of_client("f.db", report, limit))


def test_a_journal() -> None:
    shown = journal(ROWS)
    assert shown[0] == "f.db: run 2 began 3 h ago, and is known to have run 2 min ago"
    for line in (
        "client id state subscriptions queue in flight inbound bytes will expires",
        "alice parked 2 3 3 2 44 in 3 s in 57 min",
        "bob connected 1 1 0 0 16 5 min after the next start 60 min after the next start",
        "carol cut 0 0 0 0 0 in 24 h",
        "dora parked 0 0 0 0 0 never",
        "erik parked 0 0 0 0 0 12 s ago",
        "connected: when the file was last written; cut: connected in an earlier run",
        "sessions 5: 1 connected, 1 cut, 3 parked; 1 expired",
        "subscriptions 3",
        "queued 4; 1 expired",
        "in flight (QoS 2) 1 wait for PUBREC, 1 for PUBCOMP, 1 abandoned",
        "inbound identifiers 2",
        "messages 3 with 28 B; 1 stored once for several copies",
        "retained 1 with 8 B",
        "wills 3 with 7 B",
        "replays 1",
    ):
        assert line in shown
    assert "damaged rows" not in shown


def test_an_empty_journal() -> None:
    shown = journal(())
    assert shown[0] == "f.db: no run has written to it"
    assert "sessions 0: 0 connected, 0 cut, 0 parked; 0 expired" in shown
    assert not [line for line in shown if "client id" in line]


def test_a_run_whose_own_row_is_lost() -> None:
    assert journal([session(1, "a")])[0] == "f.db: run 2 was the last one"


def test_what_is_more_than_the_limit_is_counted() -> None:
    rows = [session(number, f"client-{number:03}") for number in range(1, 61)]
    shown = journal(rows, limit=10)
    assert sum(line.startswith("client-") for line in shown) == 10
    assert "50 more sessions" in shown
    assert "50 more sessions" not in journal(rows, limit=60)


def test_damaged_rows_with_when_they_were_found() -> None:
    rows = [RetainedStored(Message("t"), NOW, None, None, None)]
    quarantine = [
        (Quarantined("session", "7", "no text"), False),
        (Quarantined("will", HOSTILE, "[b]cut[/b] short"), True),
    ]
    shown = journal(rows, quarantine)
    assert "retained 't' no message that can be retained now, by its sense" in shown
    assert "session 7 no text earlier" in shown
    assert f"will {SHOWN} [b]cut[/b] short now" in shown
    assert "2 more" in journal(rows, quarantine, limit=1)


def test_a_client() -> None:
    shown = client(ROWS, "alice")
    assert shown[1] == "client alice"
    for line in (
        "state parked",
        "protocol 5.0",
        "principal al",
        "expires in 57 min",
        "interval 60 min",
        "run 2",
        "queue 3",
        "in flight (QoS 2) 1 wait for PUBREC, 1 for PUBCOMP, 1 abandoned",
        "will on lost/alice: 4 B, QoS 1, retained, delay 30 s, due in 3 s",
        "retained messages still to be sent for alarm",
        "session expires in 57 min alice",
        "will due in 3 s lost/alice",
        "message expires in 3 d alarm",
        "message expires 1 s ago alarm",
        "incoming identifier ends in 59 s 9",
        "alarm 1 retain handling 2, no local, retain as published 7",
        "news 2 retain handling 0",
        "alarm 6 1 (the host) 2 h ago in 3 d",
        "news 16 2 press 12 s ago never",
        "2 in flight news 16 2 press 12 s ago never",
        "1 releasing",
        "3 abandoned",
        "4 at PUBREL",
        "9 in 59 s",
    ):
        assert line in shown
    assert shown.index("session expires in 57 min alice") > shown.index(
        "will due in 3 s lost/alice"
    )


def test_lists_of_a_client_are_cut() -> None:
    shown = client(ROWS, "alice", limit=1)
    assert shown.count("4 more") == 1  # deadlines
    assert shown.count("2 more") == 2  # queue, exchanges
    assert shown.count("1 more") == 2  # subscriptions, identifiers


def test_states_of_a_client() -> None:
    assert "state connected when the file was last written" in client(ROWS, "bob")
    assert "state connected in an earlier run, and cut" in client(ROWS, "carol")
    assert "interval it never ends" in client(ROWS, "dora")
    assert "no session: it ended with its connection, and its will is left" in client(ROWS, "zoe")


def test_no_payload_is_shown() -> None:
    for name in ("alice", "bob", "zoe"):
        assert "secret" not in "".join(client(ROWS, name))
    assert "secret" not in "".join(journal(ROWS))


def test_names_are_shown_letter_by_letter() -> None:
    message = Message(HOSTILE, b"x", 1)
    delivery = Delivery(message, 1, received_at=NOW, expires_at=NOW + 5, publisher=HOSTILE)
    rows: list[Stored] = [
        session(1, HOSTILE, principal=HOSTILE),
        SubscriptionStored(1, Subscription(HOSTILE)),
        WillStored(HOSTILE, Will(message), NOW + 5, 2, None),
        DeliveryStored(20, 1, None, delivery),
    ]
    assert [line for line in journal(rows) if line.startswith(f"{SHOWN} parked")]
    shown = client(rows, HOSTILE)
    for line in (
        f"client {SHOWN}",
        f"principal {SHOWN}",
        f"{SHOWN} 0 retain handling 0",
        f"{SHOWN} 1 1 {SHOWN} now in 5 s",
        f"message expires in 5 s {SHOWN}",
        f"will on {SHOWN}: 1 B, QoS 1, delay 0 s, due in 5 s",
    ):
        assert line in shown


def test_a_name_of_any_length_takes_one_line() -> None:
    rows = [session(1, "a" * 65_535), session(2, "b")]
    narrow = lines(tables.of_journal("f.db", summarize(rows, NOW), [], 50), width=80)
    assert sum("aaa" in line for line in narrow) == 1
