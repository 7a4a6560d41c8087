"""JSON: the fields that programs rely on."""

from __future__ import annotations

import json
from typing import Any

import attrs

from mqtt_sessions.inspect import documents, look_up, summarize
from mqtt_sessions.inspect.client import ClientReport
from mqtt_sessions.journals import Quarantined
from tests.inspect.helpers import NOW, ROWS, session

DAMAGED = [(Quarantined("session", "7", "why"), False), (Quarantined("will", "'x'", "so"), True)]

SESSION = {
    "client_id": "alice",
    "session_id": 1,
    "epoch": 2,
    "state": "parked",
    "protocol_version": 5,
    "principal": "al",
    "expiry_interval": 3600.0,
    "expires": {"at": NOW + 3420, "in_seconds": 3420.0, "after_start": None},
    "subscriptions": 2,
    "queued": 3,
    "in_flight": 1,
    "releasing": 1,
    "abandoned": 1,
    "inbound": 2,
    "message_bytes": 44,
    "replays": 1,
    "will_due": {"at": NOW + 3, "in_seconds": 3.0, "after_start": None},
}
RUNS = {"last": 2, "started_at": NOW - 10_800, "alive_at": NOW - 130}


def journal(*args: Any) -> Any:
    return json.loads("".join(documents.of_journal(*args)))


def client(report: ClientReport | None, limit: int | None = None) -> Any:
    assert report is not None
    return json.loads("".join(documents.of_client("f.db", report, limit)))


def test_every_field_of_a_journal() -> None:
    given = journal("f.db", summarize(ROWS, NOW, 1), DAMAGED)
    assert given == {
        "format": 1,
        "file": "f.db",
        "now": NOW,
        "runs": RUNS,
        "totals": {
            "sessions": 5,
            "connected": 1,
            "cut": 1,
            "parked": 3,
            "expired": 1,
            "subscriptions": 3,
            "queued": 4,
            "expired_messages": 1,
            "in_flight": 1,
            "releasing": 1,
            "abandoned": 1,
            "inbound": 2,
            "replays": 1,
            "wills": 3,
            "retained": 1,
            "messages": 3,
            "shared_messages": 1,
            "message_bytes": 28,
            "retained_bytes": 8,
            "will_bytes": 7,
        },
        "sessions": [SESSION],
        "set_aside": [],
        "quarantine": [
            {"table": "session", "row": "7", "reason": "why", "found_now": False},
            {"table": "will", "row": "'x'", "reason": "so", "found_now": True},
        ],
    }


def test_every_field_of_a_client() -> None:
    given = client(look_up(ROWS, "alice", NOW), 1)
    assert given == {
        "format": 1,
        "file": "f.db",
        "now": NOW,
        "runs": RUNS,
        "client_id": "alice",
        "session": SESSION,
        "subscriptions": [
            {
                "topic_filter": "alarm",
                "qos": 1,
                "no_local": True,
                "retain_as_published": True,
                "retain_handling": 2,
                "subscription_id": 7,
            }
        ],
        "queue": [
            {
                "delivery_id": 22,
                "topic_name": "alarm",
                "size": 6,
                "qos": 1,
                "retain": False,
                "received_at": NOW - 7200,
                "expires_at": NOW + 259_200,
                "publisher": None,
            }
        ],
        "exchanges": [
            {
                "packet_id": 2,
                "phase": "in flight",
                "message": {
                    "delivery_id": 20,
                    "topic_name": "news",
                    "size": 16,
                    "qos": 2,
                    "retain": False,
                    "received_at": NOW - 12,
                    "expires_at": None,
                    "publisher": "press",
                },
            }
        ],
        "inbound": [{"packet_id": 4, "ends_at": None}],
        "will": {
            "topic_name": "lost/alice",
            "size": 4,
            "qos": 1,
            "retain": True,
            "will_delay_interval": 30,
            "due": {"at": NOW + 3, "in_seconds": 3.0, "after_start": None},
        },
        "replays": ["alarm"],
        "deadlines": [
            {
                "kind": "message_expiry",
                "due": {"at": NOW - 1, "in_seconds": -1.0, "after_start": None},
                "subject": "alarm",
            }
        ],
    }


def test_all_of_a_client_unless_it_is_limited() -> None:
    report = look_up(ROWS, "alice", NOW)
    given = client(report)
    assert report is not None
    for name, value in attrs.asdict(report, recurse=False).items():
        if isinstance(value, tuple):
            assert len(given[name]) == len(value)


def test_a_client_of_which_only_a_will_is_left() -> None:
    given = client(look_up(ROWS, "zoe", NOW))
    assert given["session"] is None
    assert given["will"]["due"] == {"at": None, "in_seconds": None, "after_start": 0}


def test_names_of_any_characters_in_plain_ascii() -> None:
    name = "\x1b[2J\u202e\x7fü𝄞\\"
    text = "".join(documents.of_journal("f.db", summarize([session(1, name)], NOW), []))
    assert text.isascii()
    assert text.replace("\n", "").isprintable()
    assert json.loads(text)["sessions"][0]["client_id"] == name
