"""Live brokers, started and stopped by the tests, and the differences that are known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.broker.configuration import Configuration
from mqtt_sessions.testing.live import BrokerSubject
from tests.broker.helpers import RunningBroker
from tests.live import differences
from tests.live.brokers import (
    Program,
    start_mosquitto,
    start_nats,
    start_rabbitmq,
    version_of,
)
from tests.live.helpers import LiveWorld

EXAMPLE, MOSQUITTO, RABBITMQ, NATS = "example", "mosquitto", "rabbitmq", "nats"

BROKERS = [
    pytest.param(EXAMPLE),
    pytest.param(MOSQUITTO),
    pytest.param(RABBITMQ, marks=pytest.mark.nightly),
    pytest.param(NATS, marks=pytest.mark.nightly),
]
PROTOCOLS = {RABBITMQ: (3, 4), NATS: (4,)}
"""Protocol versions of those that do not speak all."""

QUIET = {RABBITMQ: 0.1, NATS: 0.1}
"""Seconds: these hand messages from one task to another."""

SLACK = {EXAMPLE: 0.15}
SLOW = 1.2
"""Seconds that a broker's clock may lag: most look once in a second what has come due."""


@pytest.fixture(scope="session")
def example() -> Iterator[int]:
    """The port of an example broker with its defaults."""
    running = RunningBroker(Configuration())
    yield running.port
    running.stop()


def _program(name: str, start: Callable[[Path], Program]) -> Any:
    @pytest.fixture(scope="session", name=name)
    def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
        program = start(tmp_path_factory.mktemp(name))
        yield program.port
        program.stop()

    return port


mosquitto = _program(MOSQUITTO, start_mosquitto)
rabbitmq = _program(RABBITMQ, start_rabbitmq)
nats = _program(NATS, start_nats)


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    """The name of a broker; each test that asks for it, or for what needs it, runs on all."""
    name: str = request.param
    return name


@pytest.fixture
def subject(request: pytest.FixtureRequest, broker: str) -> Iterator[BrokerSubject]:
    """A broker, left as it was found."""
    port: int = request.getfixturevalue(broker)
    with BrokerSubject("127.0.0.1", port, quiet=QUIET.get(broker, 0.0)) as made:
        yield made


@pytest.fixture
def world(request: pytest.FixtureRequest, broker: str, subject: BrokerSubject) -> LiveWorld:
    """Clients of a broker; skipped where the broker does not speak the protocol version."""
    version = _version(request.node)
    if version not in PROTOCOLS.get(broker, (3, 4, 5)):
        pytest.skip(f"{broker} does not speak protocol version {version}")
    return LiveWorld(subject, SLACK.get(broker, SLOW))


def _version(item: pytest.Item) -> int:
    callspec = getattr(item, "callspec", None)
    return int(callspec.params.get("version", 5)) if callspec else 5


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """A known difference has to show, in the way that the table says.

    In a version of the broker that the table is not about it may show.
    """
    callspec = getattr(pyfuncitem, "callspec", None)
    broker = callspec.params.get("broker") if callspec else None
    scenario = pyfuncitem.originalname
    known = broker and differences.expected(str(broker), scenario, _version(pyfuncitem))
    if not known:
        return (yield)
    try:
        result = yield
    except AssertionError as error:
        if not differences.shows(known, scenario, error):
            raise
        pytest.xfail(f"{known.statement}: {known.seen}")
    if differences.must_show(known, version_of(known.broker)):
        pytest.fail(f"{broker} no longer differs: {known.statement} leaves the table")
    return result
