"""The state machine: what is right passes, what is broken is found and told in few lines."""

from __future__ import annotations

import random
import re
import unittest
from collections.abc import Callable
from typing import Any, get_args

import pytest
from attrs import evolve
from hypothesis import settings
from hypothesis.errors import FlakyFailure

from mqtt_sessions import (
    Action,
    ClientConnected,
    ConnectionLost,
    DeliverMessage,
    Event,
    ExpiryPolicy,
    InvalidValue,
    Message,
    MessagePublished,
    MessageRouted,
    Outcome,
    OverlapPolicy,
    PublishReceived,
    SendConnack,
    SendPubcomp,
    SendPublish,
    ServerOptions,
    SessionLimits,
    SessionStore,
    SubscribeReceived,
    Subscription,
    Will,
)
from mqtt_sessions.testing.judge import Judge
from mqtt_sessions.testing.machine import SessionStateMachine
from mqtt_sessions.testing.model import Disagreement
from mqtt_sessions.testing.moves import (
    EVERYTHING,
    HIGHEST,
    REAL_TIME,
    Player,
    Profile,
    kinds_of_moves,
)
from mqtt_sessions.testing.strategies import limits, options, policies
from mqtt_sessions.testing.subjects import Restored, Subject

QUICK = settings(max_examples=60, stateful_step_count=40, database=None)
SEARCH = settings(max_examples=3000, stateful_step_count=20, database=None)
CALM = Profile(
    versions=(5,),
    clients=2,
    keep_alive=False,
    hostile=False,
    late=False,
    host=False,
    congestion=False,
    clock_steps_back=False,
)
"""Clients that keep to the rules: what is broken shows without provoking it."""
SMALL = SessionLimits(
    maximum_queued_messages=3,
    maximum_inbound_qos2=2,
    maximum_retained_messages=2,
    retained_replay_batch=1,
)
SHORT = ExpiryPolicy(default_session_expiry_interval=6)

# ---------------------------------------------------------------- what is right


class TestStore(SessionStateMachine):
    """As a host has it that configures nothing."""

    subject = SessionStore
    settings = QUICK


class TestSmallStore(TestStore):
    """Bounds that are reached."""

    policy = SHORT
    limits = SMALL
    options = ServerOptions(receive_maximum=2, overlap=OverlapPolicy.EACH)


class TestStoreOfAnyKind(TestStore):
    """Configured in any way."""

    policy = policies()
    limits = limits()
    options = options()


class TestRestored(TestStoreOfAnyKind):
    """Restarted after each step."""

    def subject(
        self, policy: ExpiryPolicy, limits: SessionLimits, options: ServerOptions
    ) -> Subject:
        return Restored(SessionStore(policy, limits, options))


class FromOutside:
    """A store as a socket shows it: packets alone, no notices, no deadlines."""

    real_time = True
    next_deadline_at = None

    def __init__(self, *configuration: Any) -> None:
        self.store = SessionStore(*configuration)

    def handle(self, event: Event, now: float) -> Outcome:
        actions = list(self.store.handle(event, now).actions)
        while (at := self.store.next_deadline_at) is not None and at <= now:
            actions += self.store.handle_timeout(now).actions
        return Outcome(actions=tuple(actions))

    def handle_timeout(self, now: float) -> Outcome:
        return Outcome()


class TestFromOutside(TestSmallStore):
    """What a broker's packets alone prove."""

    profile = REAL_TIME
    subject = FromOutside


# ---------------------------------------------------------------- what is broken


class Broken:
    """A store that something is wrong with."""

    def __init__(self, *configuration: Any) -> None:
        self.store = SessionStore(*configuration)

    def handle(self, event: Event, now: float) -> Outcome:
        return self.spoil(self.store.handle(self.mishear(event), now))

    def handle_timeout(self, now: float) -> Outcome:
        return self.spoil(self.store.handle_timeout(now))

    @property
    def next_deadline_at(self) -> float | None:
        return self.store.next_deadline_at

    def mishear(self, event: Event) -> Event:
        return event

    def spoil(self, outcome: Outcome) -> Outcome:
        return evolve(outcome, actions=tuple(self.act(outcome.actions)))

    def act(self, actions: tuple[Action, ...]) -> list[Action]:
        said = (self.say(action) for action in actions)
        return [action for action in said if action is not None]

    def say(self, action: Action) -> Action | None:
        return action


class ForgetsDup(Broken):
    def say(self, action: Action) -> Action | None:
        return evolve(action, dup=False) if isinstance(action, SendPublish) else action


class ForgetsPubcompOfUnknown(Broken):
    def say(self, action: Action) -> Action | None:
        unknown = isinstance(action, SendPubcomp) and action.reason_code != 0
        return None if unknown else action


class LosesQos1(Broken):
    """Silently, once a client has been sent three."""

    sent = 0

    def say(self, action: Action) -> Action | None:
        if isinstance(action, SendPublish) and action.delivery.qos == 1:
            self.sent += 1
            return None if self.sent == 3 else action
        return action


class IgnoresMessageExpiry(Broken):
    def mishear(self, event: Event) -> Event:
        if isinstance(event, (PublishReceived, MessagePublished)):
            return evolve(event, message=evolve(event.message, message_expiry_interval=None))
        return event


class IgnoresWills(Broken):
    def mishear(self, event: Event) -> Event:
        return evolve(event, will=None) if isinstance(event, ClientConnected) else event


class HandsOnTwice(Broken):
    """A repeat of a QoS 2 PUBLISH is taken for a new message."""

    def handle(self, event: Event, now: float) -> Outcome:
        outcome = super().handle(event, now)
        if isinstance(event, PublishReceived) and event.dup:
            again = self.store.handle(MessagePublished(event.message), now)
            return Outcome((), outcome.actions + again.actions, outcome.notices + again.notices)
        return outcome


class IsStrict(Broken):
    """Due means earlier than now, and not at the same instant."""

    def handle_timeout(self, now: float) -> Outcome:
        return self.spoil(self.store.handle_timeout(now - 0.125))

    @property
    def next_deadline_at(self) -> float | None:
        at = self.store.next_deadline_at
        return None if at is None else at + 0.125


class WakesLate(Broken):
    @property
    def next_deadline_at(self) -> float | None:
        at = self.store.next_deadline_at
        return None if at is None else at + 1


class NeverRests(Broken):
    @property
    def next_deadline_at(self) -> float | None:
        return 0.0


class Raises(Broken):
    def mishear(self, event: Event) -> Event:
        if isinstance(event, ConnectionLost):
            raise KeyError(event.connection)
        return event


QUIET = evolve(CALM, wills=False, retained=False, expiry=False, time=False)
HOSTILE = evolve(QUIET, clients=1, take_over=False, hostile=True)
BROKEN: tuple[tuple[Callable[..., Subject], int, Profile], ...] = (
    (ForgetsDup, 6, QUIET),
    (ForgetsPubcompOfUnknown, 4, HOSTILE),
    (IgnoresMessageExpiry, 5, CALM),
    (IgnoresWills, 5, CALM),
    (HandsOnTwice, 6, QUIET),
    (IsStrict, 4, CALM),
    (NeverRests, 1, CALM),
    (Raises, 4, CALM),
)


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("broken", "most", "profile"), BROKEN, ids=[each[0].__name__ for each in BROKEN]
)
def test_what_is_broken_is_found_and_told_in_few_steps(
    broken: Callable[..., Subject], most: int, profile: Profile
) -> None:
    attributes = {"subject": broken, "settings": SEARCH, "profile": profile}
    case: Any = type("TestBroken", (SessionStateMachine,), attributes)("test_session_semantics")
    kinds = (AssertionError, KeyError)
    with pytest.raises(kinds, match=r"MQTT-\d|NN-\d|host|1") as raised:
        case.test_session_semantics()
    assert len(case.judge.steps) <= most
    text, diagram = raised.value.__notes__
    rule = case.judge.failure.rule
    assert re.fullmatch(r"(3\.1\.1 )?MQTT-[\d.]+-\d+|NN-\d+\.\d+\w?|host|KeyError", rule)
    assert f"✗  {rule}: " in text
    assert f"✗ {rule}: " in diagram


# ---------------------------------------------------------------- the test case


def test_the_base_class_is_not_run() -> None:
    result = unittest.TestResult()
    unittest.TestLoader().loadTestsFromTestCase(SessionStateMachine).run(result)
    assert len(result.skipped) == 1
    assert result.wasSuccessful()


def test_pytest_takes_up_what_has_a_subject_and_nothing_else() -> None:
    class Abstract(SessionStateMachine):
        profile = CALM

    class Concrete(Abstract):
        subject = SessionStore

    class Further(Concrete):
        limits = SMALL

    kinds = (SessionStateMachine, Abstract, Concrete, Further)
    assert [kind.__test__ for kind in kinds] == [False, False, True, True]


def test_a_subject_is_told_that_the_run_has_ended() -> None:
    opened, closed = [], []

    class Closing(Broken):
        def __init__(self, *configuration: Any) -> None:
            super().__init__(*configuration)
            opened.append(self)

        def close(self) -> None:
            closed.append(self)

    class TestClosing(SessionStateMachine):
        subject = Closing
        settings = settings(QUICK, max_examples=3, stateful_step_count=3)

    TestClosing("test_session_semantics").test_session_semantics()
    assert opened == closed != []


def test_a_subject_that_fails_now_and_then_is_told_too() -> None:
    """As brokers do that are late sometimes: the run that failed is kept."""
    failed = []

    class FailsOnce(Broken):
        def say(self, action: Action) -> Action | None:
            if isinstance(action, SendConnack) and not failed:
                failed.append(action)
                return None
            return action

    class TestFlaky(SessionStateMachine):
        subject = FailsOnce
        settings = settings(QUICK, max_examples=5)

    case = TestFlaky("test_session_semantics")
    with pytest.raises(FlakyFailure) as raised:
        case.test_session_semantics()
    assert case.judge is not None
    assert case.judge.failure is not None
    assert "✗" in raised.value.__notes__[0]


def test_what_is_no_subjects_fault_is_left_as_it_is() -> None:
    class Unreachable(SessionStateMachine):
        settings = settings(QUICK, max_examples=2)

        def subject(self, *configuration: Any) -> Subject:
            raise ConnectionRefusedError("nobody listens")

    with pytest.raises(ConnectionRefusedError) as raised:
        Unreachable("test_session_semantics").test_session_semantics()
    assert "Mermaid" not in "".join(raised.value.__notes__)


def test_what_is_configured_is_what_the_subject_gets() -> None:
    seen: list[tuple[Any, ...]] = []

    class TestConfigured(SessionStateMachine):
        policy = SHORT
        limits = SMALL
        settings = settings(QUICK, max_examples=1, stateful_step_count=1)

        def subject(self, *configuration: Any) -> Subject:
            seen.append(configuration)
            return SessionStore(*configuration)

    TestConfigured("test_session_semantics").test_session_semantics()
    assert set(seen) == {(SHORT, SMALL, ServerOptions())}


# ---------------------------------------------------------------- moves

CONNECTS = (
    ClientConnected(1, "a", session_expiry_interval=8, receive_maximum=2),
    ClientConnected(1, "a", 4, keep_alive=4, will=Will(Message("t", b"will", 1))),
    ClientConnected(1, "", 5, assigned_client_id="x"),
)


def played(profile: Profile, steps: int) -> list[Event | None]:
    """What happens to a store when moves are drawn evenly."""
    drawn = random.Random(1)
    kinds = len(kinds_of_moves(profile))
    events: list[Event | None] = []
    while len(events) < steps:
        judge = Judge(SessionStore())
        player = Player(judge, profile, CONNECTS, SessionLimits())
        for _ in range(50):
            who = drawn.randrange(profile.clients)
            variant = drawn.randint(0, HIGHEST), drawn.randint(0, HIGHEST)
            player.play((drawn.randrange(kinds), who, *variant))
        events += [step.event for step in judge.steps]
    return events


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"clients": 9}, "clients must be 1 to 5, not 9"),
        ({"clients": 0}, "clients must be 1 to 5, not 0"),
        ({"clients": "2"}, "clients must be of type int, not str"),
        ({"versions": ()}, "versions must be a tuple of some of"),
        ({"versions": (5, 6)}, "versions must be a tuple of some of"),
        ({"versions": 5}, "versions must be a tuple of some of"),
    ],
)
def test_a_profile_is_of_a_world_that_can_be(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidValue, match=f"Profile.{told}"):
        Profile(**given)


def test_everything_that_can_happen_to_a_store_happens() -> None:
    kinds = {type(event) for event in played(EVERYTHING, 4000)}
    wanted = set(get_args(Event)) - {MessageRouted, DeliverMessage}
    assert kinds == wanted | {type(None)}


def test_a_profile_leaves_out_what_it_says() -> None:
    events = played(REAL_TIME, 2000)
    kinds = {type(event).__name__ for event in events}
    assert kinds == {
        "ClientConnected",
        "ConnectionLost",
        "DisconnectReceived",
        "MalformedPacketReceived",
        "PingReceived",
        "PubackReceived",
        "PubcompReceived",
        "PublishReceived",
        "PubrecReceived",
        "PubrelReceived",
        "SubscribeReceived",
        "UnsubscribeReceived",
    }
    said = [event.message for event in events if isinstance(event, PublishReceived)]
    assert all(message.message_expiry_interval is None for message in said)
    assert any(message.retain for message in said)
    tame = played(evolve(CALM, retained=False, take_over=False, time=False), 500)
    assert None not in tame
    assert not [each for each in tame if isinstance(each, PublishReceived) and each.message.retain]


# ---------------------------------------------------------------- a list of events is judged too


def test_a_test_that_is_a_list_of_events() -> None:
    judge = Judge(SessionStore())
    judge.feed(ClientConnected(1, "a", session_expiry_interval=60), 0.0)
    judge.feed(SubscribeReceived(1, 1, (Subscription("t", 1),)), 0.0)
    step = judge.feed(MessagePublished(Message("t", b"x", 1)), 1.0)
    assert [type(action) for action in step.actions] == [SendPublish]
    judge.feed(ConnectionLost(1), 2.0)
    assert judge.pass_time(62.0).next_deadline_at is None
    assert judge.failure is None
    assert len(judge.steps) == 5


def unwatched(subject: Subject) -> Judge:
    """A judge who has the model alone, and what it checks itself."""
    judge = Judge(subject)
    judge._watch = None
    return judge


def test_a_deadline_that_is_told_too_late_breaks_a_law() -> None:
    judge = unwatched(WakesLate(ExpiryPolicy(), SessionLimits(), ServerOptions()))
    with pytest.raises(Disagreement, match=r"host: next_deadline_at is 7.0, and .* ends at 6.0"):
        judge.feed(ClientConnected(1, "a", keep_alive=4), 0.0)


def test_work_that_never_ends_breaks_a_law() -> None:
    judge = unwatched(NeverRests(ExpiryPolicy(), SessionLimits(), ServerOptions()))
    with pytest.raises(Disagreement, match="left work due") as raised:
        judge.pass_time(1.0)
    assert raised.value.rule == "host"


@pytest.mark.parametrize("told", [float("nan"), float("inf"), float("-inf"), "soon", True])
def test_a_deadline_is_a_finite_number(told: Any) -> None:
    class Tells(Broken):
        next_deadline_at = told

    judge = Judge(Tells(ExpiryPolicy(), SessionLimits(), ServerOptions()))
    with pytest.raises(Disagreement, match=r"host: next_deadline_at is .*, no finite") as raised:
        judge.feed(ClientConnected(1, "a"), 0.0)
    assert "CONNECT" in raised.value.__notes__[0]


@pytest.mark.parametrize("lacking", ["handle", "handle_timeout", "next_deadline_at"])
def test_what_lacks_a_member_is_no_subject(lacking: str) -> None:
    members = {"handle": Broken.handle, "handle_timeout": Broken.handle_timeout}
    members |= {"next_deadline_at": None}  # type: ignore[dict-item]
    del members[lacking]
    with pytest.raises(TypeError, match=f"is no Subject: it has no {lacking}$"):
        Judge(type("Lacking", (), members)())


def test_none_is_no_subject() -> None:
    nothing: Any = None
    with pytest.raises(TypeError, match="None is no Subject: it has no handle, handle_timeout"):
        Judge(nothing)


@pytest.mark.parametrize("given", [None, 42])
def test_what_a_call_returns_is_an_outcome(given: Any) -> None:
    class Returns(Broken):
        def handle(self, event: Event, now: float) -> Outcome:
            return super().handle(event, now) if isinstance(event, ClientConnected) else given

        def handle_timeout(self, now: float) -> Outcome:
            return given

    for step, called in ((1, "handle"), (2, "handle_timeout")):
        judge = Judge(Returns(ExpiryPolicy(), SessionLimits(), ServerOptions()))
        judge.feed(ClientConnected(1, "a"), 0.0)
        with pytest.raises(Disagreement, match=f"host: {called} returned {given}, .* no Outcome"):
            judge.feed(ConnectionLost(1), 1.0) if step == 1 else judge.pass_time(1.0)


def test_its_error_carries_the_run() -> None:
    judge = Judge(LosesQos1(ExpiryPolicy(), SessionLimits(), ServerOptions()))
    judge.feed(ClientConnected(1, "a"), 0.0)
    judge.feed(SubscribeReceived(1, 1, (Subscription("t", 1),)), 0.0)
    for number in range(2):
        judge.feed(MessagePublished(Message("t", b"%d" % number, 1)), 1.0)
    with pytest.raises(AssertionError) as raised:
        judge.feed(MessagePublished(Message("t", b"lost", 1)), 1.0)
    text, diagram = raised.value.__notes__
    assert text.count("host → server") == 3
    assert diagram.count("host->>server") == 3
