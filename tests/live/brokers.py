"""Brokers as programs: each with its own configuration, on a free port of 127.0.0.1."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from tests.broker.helpers import port_that_stays_free

__all__ = [
    "Program",
    "start_mosquitto",
    "start_nats",
    "start_rabbitmq",
    "version_of",
]

STARTS_WITHIN = 60.0
STOPS_WITHIN = 60.0


def find_program(name: str, package: str, *directories: str) -> str:
    """Where a program is; administrators' programs are not on every user's PATH.

    A user's run without it skips the test and says why; CI fails, for a skipped test proves
    nothing.
    """
    where = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", *directories])
    path = shutil.which(name, path=where)
    if path is not None:
        return path
    message = f"{name} is not installed (Debian: {package})"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@functools.cache
def version_of(broker: str) -> str | None:
    """What the installed program says of itself, such as 2.0.11."""
    program, *arguments = {
        "mosquitto": ["mosquitto", "-h"],
        "nats": ["nats-server", "--version"],
        "rabbitmq": ["rabbitmqctl", "version"],
    }[broker]
    command = [find_program(program, broker), *arguments]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+\.\d+[.\d]*", said)
    return found and found.group()


@attrs.define
class Program:
    """A broker that runs: where it listens, and how it ends.

    Attributes:
        port: On 127.0.0.1.
        process: The program.
        log: What it printed.
    """

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        """End it, and nothing that it did not start itself."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(STOPS_WITHIN)


def _start(
    command: list[str],
    port: int,
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> Program:
    """Run a program in a process group of its own, and wait until it listens."""
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    program = Program(port, process, log)
    until = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return program
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > until:
            program.stop()
            raise AssertionError(f"{command[0]} does not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.02)


def start_mosquitto(directory: Path, *, stock: bool = False) -> Program:
    """Mosquitto with no bounds of its own in the way of the standard's; `stock`: with its own."""
    path = find_program("mosquitto", "mosquitto")
    port = port_that_stays_free()
    configuration = directory / "mosquitto.conf"
    own = f"listener {port} 127.0.0.1\nallow_anonymous true\n"
    unbounded = """\
allow_zero_length_clientid true
persistence false
max_inflight_messages 0
max_queued_messages 0
set_tcp_nodelay true
sys_interval 0
"""
    configuration.write_text(own if stock else own + unbounded)
    directory.chmod(0o755)  # as root it becomes another user, who has to read this
    return _start([path, "-c", str(configuration)], port, directory)


def start_nats(directory: Path) -> Program:
    """NATS with its MQTT listener, which needs JetStream and a server name."""
    path = find_program("nats-server", "nats-server")
    port, own_port = port_that_stays_free(), port_that_stays_free()
    configuration = directory / "nats.conf"
    configuration.write_text(
        f"""\
server_name: judged
listen: "127.0.0.1:{own_port}"
jetstream {{ store_dir: "{directory}/jetstream" }}
mqtt {{ listen: "127.0.0.1:{port}" }}
"""
    )
    return _start([path, "-c", str(configuration)], port, directory)


def start_rabbitmq(directory: Path) -> Program:
    """A RabbitMQ node of its own beside any that runs, with nothing but its MQTT plugin."""
    path = find_program("rabbitmq-server", "rabbitmq-server", "/usr/lib/rabbitmq/bin")
    inner = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # Debian's own wrapper changes the user
    port, own_port, distribution_port = (port_that_stays_free() for _ in range(3))
    (directory / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
    (directory / "rabbitmq.conf").write_text(
        f"""\
listeners.tcp.1 = 127.0.0.1:{own_port}
mqtt.listeners.tcp.1 = 127.0.0.1:{port}
mqtt.allow_anonymous = true
mqtt.default_user = guest
mqtt.default_pass = guest
"""
    )
    environment = {
        "HOME": str(directory),
        "RABBITMQ_NODENAME": f"judged{port}@localhost",
        "RABBITMQ_NODE_PORT": str(own_port),
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "logs"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "none"),
        "RABBITMQ_LOGS": "-",
    }
    command = [str(inner if inner.exists() else path)]
    return _start(command, port, directory, environment)
