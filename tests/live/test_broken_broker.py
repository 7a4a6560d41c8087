"""What judges live brokers finds a broken one: the example broker over stores that do wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

import hypothesis
import pytest
from attrs import evolve
from hypothesis import Phase

from examples.broker.configuration import DEFAULT_LIMITS, DEFAULT_OPTIONS, Configuration
from mqtt_sessions import (
    Action,
    Event,
    Outcome,
    PublishReceived,
    SendConnack,
    SendPubcomp,
    SendPublish,
    SendPubrel,
    SessionStore,
)
from mqtt_sessions.testing.live import BrokerSubject
from mqtt_sessions.testing.machine import SessionStateMachine
from mqtt_sessions.testing.model import Disagreement
from mqtt_sessions.testing.moves import REAL_TIME
from tests.broker.helpers import RunningBroker
from tests.live import test_scenarios as scenarios
from tests.live.helpers import LiveWorld

Change = Callable[[Any], Any]


class BrokenStore:
    """A store, with what goes in or comes out changed; None: it is lost."""

    def __init__(self, store: SessionStore, into: Change, out: Change) -> None:
        self._store, self._into, self._out = store, into, out

    def handle(self, event: Event, now: float) -> Outcome:
        outcome = self._store.handle(self._into(event), now)
        actions = [self._out(action) for action in outcome.actions]
        return Outcome(actions=tuple(each for each in actions if each is not None))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def as_it_is(what: Any) -> Any:
    return what


def without_retain(event: Event) -> Event:
    if isinstance(event, PublishReceived):
        return evolve(event, message=evolve(event.message, retain=False))
    return event


def without_dup(action: Action) -> Action:
    return evolve(action, dup=False) if isinstance(action, SendPublish) else action


def without_pubcomp(action: Action) -> Action | None:
    return None if isinstance(action, SendPubcomp) else action


def without_pubrel(action: Action) -> Action | None:
    return None if isinstance(action, SendPubrel) else action


def without_session_present(action: Action) -> Action:
    return evolve(action, session_present=False) if isinstance(action, SendConnack) else action


def at_qos_0(action: Action) -> Action:
    if isinstance(action, SendPublish) and action.delivery.qos:
        delivery = evolve(action.delivery, qos=0)
        return evolve(action, delivery=delivery, packet_id=None, dup=False)
    return action


BROKEN = {
    "forgets what is retained": (
        without_retain,
        as_it_is,
        scenarios.test_new_subscription_gets_the_last_retained_message,
    ),
    "sends again without DUP": (
        as_it_is,
        without_dup,
        scenarios.test_resume_sends_again_with_dup_and_the_same_identifiers_in_order,
    ),
    "owes PUBCOMP": (as_it_is, without_pubcomp, scenarios.test_unknown_pubrel_is_answered),
    "owes PUBREL": (as_it_is, without_pubrel, scenarios.test_repeated_pubrec_gets_pubrel_again),
    "denies that a session goes on": (
        as_it_is,
        without_session_present,
        scenarios.test_session_present_tells_whether_a_session_goes_on,
    ),
    "delivers at QoS 0": (as_it_is, at_qos_0, scenarios.test_lost_connection_publishes_the_will),
}


@pytest.fixture
def broken(request: pytest.FixtureRequest) -> Iterator[tuple[int, Any]]:
    """The port of a broken broker, and a scenario that shows it."""
    into, out, scenario = BROKEN[request.param]
    running = RunningBroker(Configuration())
    running.call(lambda broker: setattr(broker.host, "store", BrokenStore(broker.store, into, out)))
    yield running.port, scenario
    running.stop()


@pytest.mark.unmeasured
@pytest.mark.parametrize("broken", BROKEN, indirect=True)
def test_state_machine_finds_it(broken: tuple[int, Any]) -> None:
    class Test(SessionStateMachine):
        limits = DEFAULT_LIMITS
        options = DEFAULT_OPTIONS
        profile = REAL_TIME
        settings = hypothesis.settings(
            max_examples=200, stateful_step_count=30, derandomize=True, phases=[Phase.generate]
        )

        def subject(self, *settings: Any) -> BrokerSubject:
            return BrokerSubject("127.0.0.1", broken[0], timeout=0.5)

    with pytest.raises(Disagreement):
        Test("test_session_semantics").test_session_semantics()


@pytest.mark.parametrize("broken", BROKEN, indirect=True)
def test_scenario_fails_for_it(broken: tuple[int, Any]) -> None:
    port, scenario = broken
    more = {"qos": 1} if "qos" in signature(scenario).parameters else {}
    with BrokerSubject("127.0.0.1", port, timeout=0.5) as subject:
        world = LiveWorld(subject, 0.15)
        with pytest.raises((AssertionError, ValueError)):
            scenario(world, 5, **more)
