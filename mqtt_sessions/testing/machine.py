"""A test case that holds a session layer against the reference model.

    class TestMine(SessionStateMachine):
        def subject(self, policy, limits, options):
            return MySessions(policy, limits, options)

Hypothesis looks for a run in which the subject does what no rule allows, and shrinks it. The error
then carries the run as a transcript and as a Mermaid sequence diagram.
"""

from __future__ import annotations

import unittest
from typing import Any, ClassVar, TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import SearchStrategy

from mqtt_sessions.events import ClientConnected
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.testing.judge import Judge
from mqtt_sessions.testing.model import Model
from mqtt_sessions.testing.moves import HIGHEST, Player, Profile, kinds_of_moves
from mqtt_sessions.testing.strategies import connects
from mqtt_sessions.testing.subjects import Subject

__all__ = ["SessionStateMachine"]

V = TypeVar("V")

_MOST_CONNECTS = 4
"""Different CONNECT packets in one run."""


class SessionStateMachine(unittest.TestCase):
    """Base class of tests that hold a subject against the reference model.

    Override `subject`, and whatever else is to differ. pytest and unittest collect the subclass as
    any other test case; this class itself is not run.

    Attributes:
        policy: When things end, or a strategy that draws it for each run, such as `policies()`.
        limits: How far things grow, or `limits()`.
        options: What the server offers, or `options()`.
        profile: What the world contains: `EVERYTHING`, `REAL_TIME`, or a `Profile` of one's own.
        model: The reference model, or one that follows another choice that the standard leaves,
            such as `model_at_pubrel.ModelAtPubrel`.
        settings: Hypothesis settings, None for those in force: how many runs there are
            (`max_examples`), how many moves each has (`stateful_step_count`), whether they are the
            same each time (`derandomize`). Deadline, health checks and the explain phase are always
            off: runs are long, and the transcript explains.
        judge: Who judged the last run that failed, which is the smallest one found: its `steps`
            are what happened, its `failure` is what was wrong. Without a failure, the first run's.
    """

    __test__ = False

    policy: ClassVar[ExpiryPolicy | SearchStrategy[ExpiryPolicy]] = ExpiryPolicy()
    limits: ClassVar[SessionLimits | SearchStrategy[SessionLimits]] = SessionLimits()
    options: ClassVar[ServerOptions | SearchStrategy[ServerOptions]] = ServerOptions()
    profile: ClassVar[Profile] = Profile()
    model: ClassVar[type[Model]] = Model
    settings: ClassVar[hypothesis.settings | None] = None

    judge: Judge | None = None

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.__test__ = cls.subject is not SessionStateMachine.subject

    def subject(
        self, policy: ExpiryPolicy, limits: SessionLimits, options: ServerOptions
    ) -> Subject:
        """A new subject, configured like this; called once for each run.

        A class that takes these three, such as `SessionStore`, may stand here as it is.
        """
        raise NotImplementedError

    def judge_of(
        self,
        subject: Subject,
        policy: ExpiryPolicy,
        limits: SessionLimits,
        options: ServerOptions,
    ) -> Judge:
        """Who judges a run; override it to change what is fed."""
        return Judge(subject, policy, limits, options, model=self.model, notes=False)

    def test_session_semantics(self) -> None:
        """Each run of moves leaves the subject in agreement with the model."""
        if type(self).subject is SessionStateMachine.subject:
            self.skipTest("only subclasses with a subject are run")
        given = self.settings or hypothesis.settings()
        settings = hypothesis.settings(
            given,
            deadline=None,
            phases=[phase for phase in given.phases if phase is not Phase.explain],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(_machine_for(self), settings=settings)
        except Exception as error:
            self._tell(error)
            raise

    def _tell(self, error: Exception) -> None:
        """Say what happened in words, in place of the draws by which Hypothesis says it."""
        if self.judge is None or self.judge.failure is None:
            return  # it is no subject's fault
        notes = getattr(error, "__notes__", [])
        error.__notes__ = [note for note in notes if note.startswith("You can reproduce")]
        self.judge.tell(error)


def _drawn(given: V | SearchStrategy[V]) -> SearchStrategy[V]:
    return given if isinstance(given, SearchStrategy) else st.just(given)


def _moves(profile: Profile) -> SearchStrategy[tuple[int, int, int]]:
    """Few small integers, kind and client in one: draws are what a step costs most."""
    variant = st.integers(0, HIGHEST)
    kinds = len(kinds_of_moves(profile))
    return st.tuples(st.integers(0, kinds * profile.clients - 1), variant, variant)


def _connects(profile: Profile) -> SearchStrategy[list[ClientConnected]]:
    """What clients say when they connect, drawn once for each run."""
    one = connects(
        profile.versions,
        has_wills=profile.wills,
        has_expiry=profile.expiry,
        has_keep_alive=profile.keep_alive,
        is_hosted=profile.host,
    )
    return st.lists(one, min_size=1, max_size=_MOST_CONNECTS)


def _machine_for(case: SessionStateMachine) -> type[RuleBasedStateMachine]:
    """The state machine that plays the moves of a test case's profile."""
    profile = case.profile

    class Machine(RuleBasedStateMachine):
        judge: Judge | None = None
        player: Player

        @initialize(
            policy=_drawn(case.policy),
            limits=_drawn(case.limits),
            options=_drawn(case.options),
            connects=_connects(profile),
        )
        def begin(
            self,
            policy: ExpiryPolicy,
            limits: SessionLimits,
            options: ServerOptions,
            connects: list[ClientConnected],
        ) -> None:
            subject = case.subject(policy, limits, options)
            self.judge = case.judge_of(subject, policy, limits, options)
            self.player = Player(self.judge, profile, connects, limits)

        @rule(move=_moves(profile))
        def move(self, move: tuple[int, int, int]) -> None:
            what, x, y = move
            self.player.play((*divmod(what, profile.clients), x, y))

        def teardown(self) -> None:
            if self.judge is None:
                return
            if self.judge.failure is not None or case.judge is None:
                case.judge = self.judge
            self.judge.close()

    Machine.__name__ = Machine.__qualname__ = type(case).__name__
    return Machine
