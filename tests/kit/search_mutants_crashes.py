"""Stores, recoveries and gates that are broken on purpose, each in one place."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from mqtt_sessions.changes import MessageRemoved, SessionRemoved
from mqtt_sessions.gate import CommitGate
from mqtt_sessions.recording import Recorder
from mqtt_sessions.recovering import SavedState

Patch = pytest.MonkeyPatch


def _nothing(*_: Any) -> None:
    """What is not done."""


# ---------------------------------------------------------------- what is stored


def inbound_identifiers_are_not_stored(patch: Patch) -> None:
    patch.setattr(Recorder, "held", _nothing)
    patch.setattr(Recorder, "released", _nothing)


def exchanges_are_not_stored(patch: Patch) -> None:
    patch.setattr(Recorder, "_exchange", _nothing)


def the_pubrel_phase_is_not_stored(patch: Patch) -> None:
    def received(self: Any, rows: Any, packet_id: int, is_abandoned: bool = False) -> None:
        rows.in_flight.pop(packet_id)

    patch.setattr(Recorder, "received", received)


def a_will_is_not_removed(patch: Patch) -> None:
    patch.setattr(Recorder, "will_gone", _nothing)


def a_retained_message_is_not_removed(patch: Patch) -> None:
    patch.setattr(Recorder, "unretained", _nothing)


def a_session_that_loses_its_connection_is_not_stored(patch: Patch) -> None:
    real = Recorder.touch

    def touch(self: Any, session: Any) -> None:
        if session.link is not None:
            real(self, session)

    patch.setattr(Recorder, "touch", touch)


def a_copy_is_removed_twice(patch: Patch) -> None:
    real = Recorder.removed

    def removed(self: Any, row_id: int, body: Any) -> None:
        real(self, row_id, body)
        self.changes.append(self.changes[-1])

    patch.setattr(Recorder, "removed", removed)


def a_message_is_removed_with_its_first_copy(patch: Patch) -> None:
    real = Recorder.removed

    def removed(self: Any, row_id: int, body: Any) -> None:
        real(self, row_id, body)
        if body is not None and body.references and body.message_id is not None:
            self.changes.append(MessageRemoved(body.message_id))

    patch.setattr(Recorder, "removed", removed)


def a_message_is_left_behind(patch: Patch) -> None:
    real = Recorder.removed

    def removed(self: Any, row_id: int, body: Any) -> None:
        real(self, row_id, body)
        if isinstance(self.changes[-1], MessageRemoved):
            self.changes.pop()

    patch.setattr(Recorder, "removed", removed)


# ---------------------------------------------------------------- what is recovered


def _contents(patch: Patch, **changed: Any) -> None:
    real = SavedState.contents

    def contents(self: Any, *given: Any) -> Any:
        made = real(self, *given)
        return evolve(made, **{name: change(made) for name, change in changed.items()})

    patch.setattr(SavedState, "contents", contents)


def identifiers_are_given_again_at_once(patch: Patch) -> None:
    _contents(patch, last_packet_id=lambda made: 0)


def exchanges_come_back_last_first(patch: Patch) -> None:
    _contents(patch, in_flight=lambda made: made.in_flight[::-1])


def subscriptions_are_forgotten(patch: Patch) -> None:
    _contents(patch, subscriptions=lambda made: ())


def a_second_crash_cuts_again_what_the_first_one_cut(patch: Patch) -> None:
    def cut_at(self: Any, epoch: int, now: float, *, at_heartbeat: bool) -> float:
        return now

    patch.setattr(SavedState, "cut_at", cut_at)


# ---------------------------------------------------------------- what is sent before


def everything_is_sent_before_the_commit(patch: Patch) -> None:
    real = CommitGate.add

    def add(self: Any, outcome: Any) -> Any:
        return (*real(self, evolve(outcome, actions=())), *outcome.actions)

    patch.setattr(CommitGate, "add", add)


def the_answer_to_a_repeat_is_sent_at_once(patch: Patch) -> None:
    real = CommitGate.add

    def add(self: Any, outcome: Any) -> Any:
        return real(self, outcome) if outcome.changes else outcome.actions

    patch.setattr(CommitGate, "add", add)


def a_will_is_sent_before_it_is_removed(patch: Patch) -> None:
    patch.setattr(CommitGate, "_note_wills", _nothing)


def qos_2_does_not_wait(patch: Patch) -> None:
    real = CommitGate._publish_relies

    def publish_relies(self: Any, delivery: Any) -> bool:
        return delivery.qos < 2 and real(self, delivery)

    patch.setattr(CommitGate, "_publish_relies", publish_relies)


def identifiers_are_used_before_they_are_reserved(patch: Patch) -> None:
    patch.setattr(CommitGate, "_note_session", lambda *_: False)


def the_end_of_a_session_is_forgotten(patch: Patch) -> None:
    real = CommitGate._take

    def take(self: Any, changes: Any, ready: Any) -> int:
        ends = tuple(each for each in changes if isinstance(each, SessionRemoved))
        others = tuple(each for each in changes if each not in ends)
        return real(self, others, ready) | real(self, ends, ready)

    patch.setattr(CommitGate, "_take", take)


def what_follows_a_batch_waits_for_no_other(patch: Patch) -> None:
    real = CommitGate.take_batch

    def take_batch(self: Any) -> Any:
        batch = real(self)
        self._tail = None
        return batch

    patch.setattr(CommitGate, "take_batch", take_batch)
