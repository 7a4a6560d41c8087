"""`--config`: fields by their own names, and a clear word about every wrong one."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import attrs
import pytest

from examples.broker.__main__ import main
from examples.broker.configuration import Configuration, ConfigurationError, load
from mqtt_sessions import (
    ExpiryPolicy,
    OverflowPolicy,
    OverlapPolicy,
    ReasonCode,
    ServerOptions,
    SessionLimits,
    UnauthorizedPolicy,
    wire,
)
from tests.broker.conftest import StartBroker
from tests.broker.helpers import RawClient, RunningBroker

PARTS = (("policy", ExpiryPolicy), ("limits", SessionLimits), ("options", ServerOptions))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "broker.toml"


def test_an_empty_file_changes_nothing(file: Path) -> None:
    file.write_text("# nothing\n")
    assert load(file) == Configuration()


def example_of(default: object) -> tuple[str, object]:
    """A value other than the default, as TOML and as it is."""
    if isinstance(default, Enum):
        other = list(type(default))[-1]
        if other is default:
            other = next(iter(type(default)))
        return f'"{other.value}"', other
    if isinstance(default, bool):
        return str(not default).lower(), not default
    if default in (1, 2):
        return "1", 1
    return "77", 77


FIELDS = [
    pytest.param(part, field.name, field.default, id=field.name)
    for part, kind in PARTS
    for field in attrs.fields(kind)
]


@pytest.mark.parametrize("table", [False, True], ids=["top level", "table"])
@pytest.mark.parametrize(("part", "name", "default"), FIELDS)
def test_every_field_can_be_set(
    file: Path, part: str, name: str, default: object, table: bool
) -> None:
    written, meant = example_of(default)
    file.write_text((f"[{part}]\n" if table else "") + f"{name} = {written}\n")
    loaded = load(file)
    assert getattr(getattr(loaded, part), name) == meant
    rest = attrs.evolve(getattr(loaded, part), **{name: default})
    expected = attrs.evolve(getattr(Configuration(), part), **{name: default})
    assert rest == expected
    assert attrs.evolve(loaded, **{part: None}) == attrs.evolve(Configuration(), **{part: None})


def test_field_names_are_unique_among_the_classes() -> None:
    names = [field.name for _, kind in PARTS for field in attrs.fields(kind)]
    assert len(names) == len(set(names))


def test_a_whole_file(file: Path) -> None:
    file.write_text("""
        default_session_expiry_interval = "never"
        maximum_queued_messages = "none"
        overflow = "drop_oldest"
        unauthorized = "close"
        server_keep_alive = 30
        maximum_packet_size = "none"
        maximum_subscriptions = "none"
        maximum_filter_levels = "none"
        refuse_subscribe = ["secret/#"]
        refuse_publish = ["$SYS/#", "+/read-only"]

        [policy]
        maximum_message_expiry_interval = 0.5

        [limits]
        maximum_queued_bytes = 1_000_000

        [options]
        overlap = "each"
    """)
    assert load(file) == Configuration(
        ExpiryPolicy(default_session_expiry_interval=None, maximum_message_expiry_interval=0.5),
        SessionLimits(
            maximum_queued_messages=None,
            overflow=OverflowPolicy.DROP_OLDEST,
            maximum_queued_bytes=1_000_000,
        ),
        ServerOptions(
            unauthorized=UnauthorizedPolicy.CLOSE,
            server_keep_alive=30,
            overlap=OverlapPolicy.EACH,
            topic_alias_maximum=10,
        ),
        ("secret/#",),
        ("$SYS/#", "+/read-only"),
    )


WRONG = {
    "unknown": ("maximum_sesions = 1", "unknown field 'maximum_sesions'"),
    "unknown in table": ("[limits]\nreceive_maximum = 1", "unknown field 'receive_maximum' in"),
    "unknown table": ("[server]\nport = 1", "unknown field 'server'"),
    "no table": ("policy = 1", "policy must be a table"),
    "twice": ("overflow = 'drop_oldest'\n[limits]\noverflow = 'drop_newest'", "set twice"),
    "no member": ("overflow = 'drop_all'", "one of 'drop_oldest', 'drop_newest'"),
    "member of another kind": ("overflow = []", "one of 'drop_oldest'"),
    "too small": ("maximum_send_window = 0", "SessionLimits.maximum_send_window must be 1 to"),
    "negative": ("default_session_expiry_interval = -1", "ExpiryPolicy.default_session_expiry_"),
    "infinite": ("retry_interval = inf", "ExpiryPolicy.retry_interval must be"),
    "no number": ("receive_maximum = 'many'", "ServerOptions.receive_maximum must be an integer"),
    "a flag": ("receive_maximum = true", "ServerOptions.receive_maximum must be an integer"),
    "none where it cannot be": ("maximum_granted_qos = 'none'", "must be an integer, not None"),
    "no flag": ("retain_available = 1", "must be true or false"),
    "a date": ("server_keep_alive = 2020-01-01", "must be an integer or None"),
    "a list": ("maximum_sessions = [1]", "must be an integer or None"),
    "floor above cap": (
        "minimum_session_expiry_interval = 9\nmaximum_session_expiry_interval = 8",
        "must not be above",
    ),
    "no list": ("refuse_publish = 'a'", "must be a list of topic filters"),
    "no filter": ("refuse_publish = ['a/#/b']", "must hold topic filters, not 'a/#/b'"),
    "no text": ("refuse_subscribe = [1]", "must hold topic filters, not 1"),
    "no TOML": ("maximum_sessions", "'='"),
    "line breaks": ("'a\\nb' = 1\n'''c\nd''' = 2", ""),
}


@pytest.mark.parametrize(("content", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_in_one_line(
    file: Path, capsys: pytest.CaptureFixture[str], content: str, problem: str
) -> None:
    file.write_text(content)
    with pytest.raises(ConfigurationError):
        load(file)
    assert main(["--memory", "--port", "0", "--config", str(file)]) == 2
    told = capsys.readouterr()
    assert told.out == ""  # it never listened
    assert problem in told.err
    assert told.err.startswith(f"broker: {file}: ")
    assert told.err.count("\n") == 1


def test_files_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for path in (tmp_path / "missing.toml", tmp_path, binary):
        assert main(["--memory", "--config", str(path)]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith(f"broker: {path}: ")
        assert told.err.count("\n") == 1


def test_what_was_set_holds(file: Path, start_broker: StartBroker) -> None:
    file.write_text("receive_maximum = 7\nmaximum_granted_qos = 1\nrefuse_subscribe = ['no']\n")
    broker = start_broker(load(file))
    with RawClient(broker.port) as client:
        assert client.connect().receive_maximum == 7
        assert client.subscribe("t", 2) == [1]
        assert client.subscribe("no") == [0x87]


def test_the_defaults_bound_what_one_client_may_ask_for(broker: RunningBroker) -> None:
    with RawClient(broker.port) as client:
        assert client.connect().maximum_packet_size == 1_048_576
        assert client.subscribe("/" * 127) == [0]
        assert client.subscribe("/" * 128) == [0x8F]
        for number in range(999):
            assert client.subscribe(str(number)) == [0]
        assert client.subscribe("one too many") == [0x97]
        client.send_bytes(b"\x30\xfd\xff\x3f")  # one byte too many
        assert client.receive_all() == [wire.Disconnect(ReasonCode.PACKET_TOO_LARGE)]
