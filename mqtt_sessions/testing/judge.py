"""A subject, the reference model and the invariants in step with each other.

`Judge` is what the state machine drives. A test that is a list of events can be judged by it just
as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mqtt_sessions._values import value
from mqtt_sessions.events import Event
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.testing.invariants import Watch
from mqtt_sessions.testing.model import Disagreement, Model
from mqtt_sessions.testing.subjects import Subject
from mqtt_sessions.testing.transcript import Failure, Step, sequence_diagram, transcript
from mqtt_sessions.turn import Outcome

__all__ = ["Judge"]

_MOST_CALLS = 10_000
"""Calls of `handle_timeout` at one instant, after which its work counts as endless."""

_MEMBERS = ("handle", "handle_timeout", "next_deadline_at")
_BEGINNING = float("-inf")


@value
class ServerCrashed:
    """What a transcript shows for a crash.

    Attributes:
        unheard: What was taken in and is not durable.
    """

    unheard: Event | None


class Judge:
    """Holds a subject against the model, step by step.

    Args:
        subject: What is judged; it is new, as the model is.
        policy: When things end, according to what the subject was told.
        limits: How far things grow.
        options: What the server offers.
        model: The model's class, where the subject makes another of the choices that the standard
            leaves, such as `model_at_pubrel.ModelAtPubrel`.
        notes: Whether an error carries the run as notes; who tries many runs, as shrinking does,
            adds them to the last one's error by `tell`.

    Raises:
        TypeError: The subject lacks a member of `Subject`.

    Attributes:
        subject: What is judged.
        model: What it is held against.
        steps: What has happened so far.
        failure: What the last step broke; None: nothing.
    """

    def __init__(
        self,
        subject: Subject,
        policy: ExpiryPolicy | None = None,
        limits: SessionLimits | None = None,
        options: ServerOptions | None = None,
        *,
        model: type[Model] = Model,
        notes: bool = True,
    ) -> None:
        missing = [name for name in _MEMBERS if not hasattr(type(subject), name)]
        missing = [name for name in missing if not hasattr(subject, name)]
        if missing:
            raise TypeError(f"{subject!r} is no Subject: it has no {', '.join(missing)}")
        settings = (policy or ExpiryPolicy(), limits or SessionLimits(), options or ServerOptions())
        self.subject = subject
        self.model = model(*settings)
        self.steps: list[Step] = []
        self.failure: Failure | None = None
        self._real_time = bool(getattr(subject, "real_time", False))
        self.model.is_order_seen = not self._real_time
        # A broker behind a socket says nothing of what happens inside, which the watch is about.
        self._watch = None if self._real_time else Watch(*settings)
        self._check: Callable[[], None] | None = getattr(subject, "check", None)
        self._latest = _BEGINNING
        self._told: float | None = None
        self._notes = notes

    def feed(self, event: Event, now: float) -> Step:
        """One event, and what is due at once because of it.

        Raises:
            AssertionError: The subject did what no rule allows, or not what it owes: `Disagreement`
                of the model, `Violation` of an invariant, or its own `check`.
        """
        return self._step(event, now)

    def crash(self, now: float, unheard: Event | None = None) -> Step:
        """The subject dies and comes back; what is due then is done.

        Args:
            now: When it comes back.
            unheard: What it was told last, and has not made durable.

        Raises:
            TypeError: It cannot: it has no `crash`.
            AssertionError: As for `feed`.
        """
        crash: Callable[[Event | None, float, float], None] | None
        crash = getattr(self.subject, "crash", None)
        if crash is None:
            raise TypeError(f"{self.subject!r} cannot crash: it has no such method")
        then = now if self._latest == _BEGINNING else self._latest
        self._latest = now = max(then, now)
        crash(unheard, then, now)
        self.model.crash(now)
        if self._watch is not None:
            self._watch.recovered(now)
        self.steps.append(Step(now, ServerCrashed(unheard)))  # type: ignore[arg-type]
        return self._step(None, now)

    def pass_time(self, now: float) -> Step:
        """Time passes until `now`, and the host's timer does what is due.

        Raises:
            AssertionError: As for `feed`.
        """
        return self._step(None, now)

    def tell(self, error: BaseException) -> None:
        """Add the run to an error: the transcript as one note, the diagram as another."""
        error.add_note("\n" + transcript(self.steps, self.failure))
        error.add_note("\nThe same for Mermaid:\n\n" + sequence_diagram(self.steps, self.failure))

    def close(self) -> None:
        """Tell the subject that the run has ended, if it wants to know."""
        close: Callable[[], None] | None = getattr(self.subject, "close", None)
        if close is not None:
            close()

    # ------------------------------------------------------------ one step

    def _step(self, event: Event | None, now: float) -> Step:
        actions: list[Any] = []
        notices: list[Any] = []
        self._latest = max(self._latest, now)  # time that goes back stands still
        position: int | None = None
        try:
            if event is not None:
                self.model.handle(event, now)
                self._collect(event, now, self.subject.handle(event, now), actions, notices)
            self._let_pass(event, now, actions, notices)
            observe = self.model.observe
            for position, output in enumerate((*actions, *notices)):  # noqa: B007
                observe(output)
            position = None
            self.model.settle()
            self._compare_deadlines()
            if self._check is not None:
                self._check()
        except Exception as error:
            self._record(Step(now, event, tuple(actions), tuple(notices)), error, position)
            raise
        step = Step(now, event, tuple(actions), tuple(notices), self._told)
        self.steps.append(step)
        return step

    def _collect(
        self,
        event: Event | None,
        now: float,
        outcome: Outcome,
        actions: list[Any],
        notices: list[Any],
    ) -> None:
        if not isinstance(outcome, Outcome):
            called = "handle_timeout" if event is None else "handle"
            raise Disagreement("host", f"{called} returned {outcome!r}, which is no Outcome")
        actions += outcome.actions
        notices += outcome.notices
        if self._watch is not None:
            self._watch.step(event, now, outcome, self._deadline())

    def _let_pass(
        self, event: Event | None, now: float, actions: list[Any], notices: list[Any]
    ) -> None:
        """What is due at this instant, in as many calls as the subject wants."""
        subject = self.subject
        calls = 0
        while (event is None and not calls) or (
            (at := self._deadline()) is not None and at <= self._latest
        ):
            if not calls:
                self.model.handle_timeout(now)
            calls += 1
            if calls == _MOST_CALLS:  # law 3 of time
                raise Disagreement("host", f"{calls} calls of handle_timeout({now}) left work due")
            self._collect(None, now, subject.handle_timeout(now), actions, notices)

    def _deadline(self) -> float | None:
        """What the subject tells, which is a finite number or None."""
        told: Any = self.subject.next_deadline_at
        number = isinstance(told, (int, float)) and not isinstance(told, bool)
        if told is not None and not (number and math.isfinite(told)):
            raise Disagreement("host", f"next_deadline_at is {told!r}, no finite number or None")
        self._told = told
        return self._told

    def _compare_deadlines(self) -> None:
        """The subject wakes its host no later than something ends: law 8 of time."""
        if self._real_time:
            return
        due, told = self.model.next_deadline_at, self._deadline()
        if due is not None and (told is None or told > due):
            raise Disagreement("host", f"next_deadline_at is {told}, and something ends at {due}")

    def _record(self, step: Step, error: Exception, position: int | None) -> None:
        self.steps.append(step)
        rule = getattr(error, "rule", type(error).__name__)
        detail = getattr(error, "detail", str(error))
        self.failure = Failure(rule, detail, position)
        if self._notes:
            self.tell(error)
