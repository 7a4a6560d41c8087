"""A broker for each test, and clients that are closed behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from examples.broker import connection as connection_module
from examples.broker.configuration import Configuration
from tests.broker.helpers import FAILS_AFTER, PahoClient, RawClient, RunningBroker

StartBroker = Callable[[Configuration], RunningBroker]
MakePaho = Callable[..., PahoClient]
MakeRaw = Callable[..., RawClient]


@pytest.fixture(autouse=True)
def _nobody_is_closed_for_being_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends a connection in a test is what the test is about, however slow the machine is."""
    monkeypatch.setattr(connection_module, "CONNECT_TIMEOUT", 2 * FAILS_AFTER)
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 2 * FAILS_AFTER)


@pytest.fixture
def start_broker() -> Iterator[StartBroker]:
    """Starts brokers of a configuration that the test chooses."""
    with ExitStack() as stack:

        def start(configuration: Configuration) -> RunningBroker:
            running = RunningBroker(configuration)
            stack.callback(running.stop)
            return running

        yield start


@pytest.fixture
def broker(start_broker: StartBroker) -> RunningBroker:
    """A broker with its defaults."""
    return start_broker(Configuration())


@pytest.fixture
def make_paho(broker: RunningBroker) -> Iterator[MakePaho]:
    """Makes paho clients of `broker`: `make_paho(version, client_id, clean=…)`."""
    with ExitStack() as stack:

        def make(version: int, client_id: str, *, clean: bool = True) -> PahoClient:
            client = PahoClient(broker.port, version, client_id, clean=clean)
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def make_raw(broker: RunningBroker) -> Iterator[MakeRaw]:
    """Makes raw clients of `broker`, with the arguments of `RawClient` behind the port."""
    with ExitStack() as stack:

        def make(version: int = 5, **options: Any) -> RawClient:
            return stack.enter_context(RawClient(broker.port, version, **options))

        yield make
