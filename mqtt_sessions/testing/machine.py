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
from mqtt_sessions.testing.moves import HIGHEST, Move, Player, Profile, kinds_of_moves
from mqtt_sessions.testing.strategies import connects
from mqtt_sessions.testing.subjects import Subject
from mqtt_sessions.testing.transcript import Step

__all__ = ["SessionStateMachine"]

V = TypeVar("V")

_MOST_CONNECTS = 4
"""Different CONNECT packets in one run."""

_PHASES = tuple(phase for phase in Phase if phase is not Phase.explain)
"""To explain which draws could have been others is of no use to a reader of the transcript."""


class SessionStateMachine(unittest.TestCase):
    """Base class of tests that hold a subject against the reference model.

    Override `subject`, and whatever else is to differ. pytest and unittest collect the subclass as
    any other test case; this class itself is not run.

    Attributes:
        policy: When things end, or a strategy that draws it for each run, such as `policies()`.
        limits: How far things grow, or `limits()`.
        options: What the server offers, or `options()`.
        profile: What the world contains: `EVERYTHING`, `REAL_TIME`, or a `Profile` of one's own.
        settings: Hypothesis settings, None for those in force; how many steps a run has is
            `stateful_step_count`, how many runs there are is `max_examples`. There is no deadline
            and no health check unless they are set here.
        steps: What happened in the last run; after a failure that is the smallest one found.
    """

    __test__ = False

    policy: ClassVar[ExpiryPolicy | SearchStrategy[ExpiryPolicy]] = ExpiryPolicy()
    limits: ClassVar[SessionLimits | SearchStrategy[SessionLimits]] = SessionLimits()
    options: ClassVar[ServerOptions | SearchStrategy[ServerOptions]] = ServerOptions()
    profile: ClassVar[Profile] = Profile()
    settings: ClassVar[hypothesis.settings | None] = None

    steps: tuple[Step, ...] = ()

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

    def test_session_semantics(self) -> None:
        """Each run of moves leaves the subject in agreement with the model."""
        if type(self).subject is SessionStateMachine.subject:
            self.skipTest("only subclasses with a subject are run")
        settings = self.settings or hypothesis.settings(
            deadline=None,
            phases=_PHASES,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(_machine_for(self), settings=settings)
        except Exception as error:
            _keep_transcript(error)
            raise


def _keep_transcript(error: Exception) -> None:
    """Leave out how Hypothesis tells the run: as draws, which the transcript says in words."""
    notes = getattr(error, "__notes__", [])
    told = [note for note in notes if note.startswith(("\n", "You can reproduce"))]
    if told:
        error.__notes__ = told


def _drawn(given: V | SearchStrategy[V]) -> SearchStrategy[V]:
    return given if isinstance(given, SearchStrategy) else st.just(given)


def _moves(profile: Profile) -> SearchStrategy[Move]:
    """Four small integers: draws are what a step costs most."""
    variant = st.integers(0, HIGHEST)
    kinds = st.integers(0, len(kinds_of_moves(profile)) - 1)
    return st.tuples(kinds, st.integers(0, profile.clients - 1), variant, variant)


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
            self.judge = Judge(subject, policy, limits, options)
            self.player = Player(self.judge, profile, connects, limits)

        @rule(move=_moves(profile))
        def move(self, move: Move) -> None:
            self.player.play(move)

        def teardown(self) -> None:
            if self.judge is not None:
                case.steps = tuple(self.judge.steps)
                self.judge.close()

    Machine.__name__ = Machine.__qualname__ = type(case).__name__
    return Machine
