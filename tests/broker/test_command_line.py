"""`python -m examples.broker`: it starts, says so, and stops as one would wish."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from examples.broker.__main__ import main
from mqtt_sessions import ReasonCode, wire
from tests.broker.helpers import FAILS_AFTER, RawClient

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "examples.broker"]
COMMAND = [*PROGRAM, "--memory"]

LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)\r?\n")


@contextmanager
def running(
    *arguments: str, port: int = 0, cwd: Path = ROOT, seconds: float = FAILS_AFTER
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The broker as a process of its own, on a free port; in memory unless it is told otherwise."""
    command = PROGRAM if "--database" in arguments or cwd != ROOT else COMMAND
    with subprocess.Popen(
        [*command, "--port", str(port), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        watchdog = threading.Timer(seconds, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = LISTENING.fullmatch(line)
            assert found, line
            yield process, int(found[1])
        finally:
            process.kill()
            watchdog.cancel()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_gracefully(number: signal.Signals) -> None:
    with running() as (process, port), RawClient(port) as modern, RawClient(port, 4) as old:
        silent = socket.create_connection(("127.0.0.1", port), FAILS_AFTER)
        modern.connect("modern")
        old.connect("old")
        process.send_signal(number)
        assert modern.receive_all() == [wire.Disconnect(ReasonCode.SERVER_SHUTTING_DOWN)]
        assert old.receive_all() == []
        assert silent.recv(1) == b""
        silent.close()
        output, errors = process.communicate(timeout=FAILS_AFTER)
        assert (process.returncode, output, errors) == (0, "", "")


def test_a_client_that_does_not_read_cannot_keep_it_alive() -> None:
    with running() as (process, port), RawClient(port) as client:
        client.connect("client", receive_maximum=65_535)
        client.subscribe("t")
        for _ in range(16):
            client.publish("t", bytes(1_000_000))  # to itself, and it reads nothing of that
        with RawClient(port) as other:
            other.connect("other")
            process.send_signal(signal.SIGTERM)
            other.receive_all()
        _, errors = process.communicate(timeout=FAILS_AFTER)
        assert (process.returncode, errors) == (0, "")


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--memory", "--port", str(port)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"broker: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_two_brokers_and_one_port() -> None:
    with running() as (_, port):
        second = subprocess.run(
            [*COMMAND, "--port", str(port)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=FAILS_AFTER,
            check=False,
        )
    assert second.returncode == 2
    assert second.stdout == ""
    assert "in use" in second.stderr
    assert second.stderr.count("\n") == 1


@pytest.mark.parametrize("host", ["203.0.113.1", "a" * 70])
def test_an_address_of_nobody(capsys: pytest.CaptureFixture[str], host: str) -> None:
    assert main(["--memory", "--port", "0", "--host", host]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"broker: cannot listen on {host}:0: ")
    assert told.err.count("\n") == 1


@pytest.mark.parametrize("port", ["65536", "-1", "mqtt", "", "１"])
def test_a_port_that_is_none(capsys: pytest.CaptureFixture[str], port: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([f"--port={port}"])
    assert "must be 0 to 65535" in capsys.readouterr().err


def test_it_listens_on_loopback_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    assert "[127.0.0.1]" in told
    assert "[1883]" in told


def test_a_broker_with_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("maximum_session_expiry_interval = 5\nserver_keep_alive = 9\n")
    with running("--config", str(file)) as (_, port), RawClient(port) as client:
        answer = client.connect(session_expiry_interval=6)
        assert (answer.session_expiry_interval, answer.server_keep_alive) == (5, 9)


def test_verbose_tells_what_happens() -> None:
    with running("--verbose") as (process, port):
        with RawClient(port) as client:
            client.connect("some client")
            client.publish("t", b"some payload")
            client.send(wire.Disconnect())
            client.receive_all()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=FAILS_AFTER)
    assert "SessionCreated(client_id='some client')" in errors
    assert "payload" not in errors


def test_the_command_of_the_example_works_with_mosquitto(
    require_program: Callable[[str], str],
) -> None:
    with running() as (_, port):
        where = ["-h", "127.0.0.1", "-p", str(port), "-t", "a", "-q", "2"]
        sent = [require_program("mosquitto_pub"), *where, "-r", "-m", "hello"]
        subprocess.run(sent, check=True, timeout=FAILS_AFTER)
        heard = subprocess.run(
            [require_program("mosquitto_sub"), *where, "-C", "1", "-W", "60"],
            check=True,
            timeout=FAILS_AFTER,
            stdout=subprocess.PIPE,
        )
        assert heard.stdout == b"hello\n"
