"""The state machine with a server that dies: stores that come back from each kind of journal."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import Phase, settings

from mqtt_sessions import ExpiryPolicy, ServerOptions, SessionLimits, SessionStore
from mqtt_sessions.journals import MemoryJournal
from mqtt_sessions.journals.contract import Journal
from mqtt_sessions.journals.sqlite import SQLiteJournal
from mqtt_sessions.testing import Journaled, Judge, Profile, SessionStateMachine
from mqtt_sessions.testing.strategies import limits, options, policies
from tests.kit import search_mutants_crashes as crashes
from tests.kit.test_machine import CALM, QUICK, QUIET, SEARCH


def in_memory(policy: ExpiryPolicy, limits: SessionLimits, options: ServerOptions) -> Journaled:
    """A store whose journal is in memory."""
    return Journaled(MemoryJournal(), MemoryJournal.reopened, policy, limits, options)


def reopened(journal: SQLiteJournal) -> Journal:
    """What a new process opens."""
    journal.close()
    return SQLiteJournal(journal.path)


class TestJournaled(SessionStateMachine):
    """A journal in memory."""

    profile = Profile(crashes=True)
    settings = QUICK

    def subject(
        self, policy: ExpiryPolicy, limits: SessionLimits, options: ServerOptions
    ) -> Journaled:
        return in_memory(policy, limits, options)


class TestJournaledOfAnyKind(TestJournaled):
    """Configured in any way."""

    policy = policies()
    limits = limits()
    options = options()


class TestInAFile(TestJournaled):
    """A journal in a file."""

    settings = settings(QUICK, max_examples=20)

    def subject(
        self, policy: ExpiryPolicy, limits: SessionLimits, options: ServerOptions
    ) -> Journaled:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "journal"
        return Journaled(SQLiteJournal(path), reopened, policy, limits, options)


# ---------------------------------------------------------------- what is found

CALM_CRASHES = evolve(CALM, crashes=True)
ONE_CLIENT = evolve(QUIET, crashes=True, clients=1)
"""In these a fault is found soon to which the way is long where everything can happen."""

MUTANTS: tuple[tuple[Callable[[pytest.MonkeyPatch], None], Profile], ...] = (
    (crashes.inbound_identifiers_are_not_stored, CALM_CRASHES),
    (crashes.exchanges_are_not_stored, ONE_CLIENT),
    (crashes.a_will_is_not_removed, TestJournaled.profile),
    (crashes.a_retained_message_is_not_removed, CALM_CRASHES),
    (crashes.a_session_that_loses_its_connection_is_not_stored, TestJournaled.profile),
    (crashes.subscriptions_are_forgotten, TestJournaled.profile),
    (crashes.a_second_crash_cuts_again_what_the_first_one_cut, CALM_CRASHES),
)


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("mutant", "profile"), MUTANTS, ids=[mutant.__name__ for mutant, _ in MUTANTS]
)
def test_what_a_crash_loses_is_found(
    mutant: Callable[[pytest.MonkeyPatch], None], profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    search = settings(SEARCH, max_examples=1_500, derandomize=True, phases=[Phase.generate])
    attributes = {"settings": search, "profile": profile}
    case: Any = type("TestMutant", (TestJournaled,), attributes)("test_session_semantics")
    with pytest.raises(AssertionError) as found:
        case.test_session_semantics()
    assert case.judge is not None
    assert case.judge.failure is not None
    told = "\n".join(found.value.__notes__)
    assert "ServerCrashed" in told


def test_who_cannot_crash_is_told_so() -> None:
    with pytest.raises(TypeError, match="no such method"):
        Judge(SessionStore()).crash(1.0)
