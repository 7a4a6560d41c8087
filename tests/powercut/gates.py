"""Gates that are broken in ways that only a power cut shows."""

from __future__ import annotations

from mqtt_sessions import Action, CommitGate, Outcome, SendPubcomp, SendPubrec

__all__ = ["AnswersRepeatsWithPubcomp", "AnswersRepeatsWithPubrec", "SendsFirst"]


class SendsFirst(CommitGate):
    """Everything goes at once, and is committed later."""

    __slots__ = ()

    def add(self, outcome: Outcome) -> tuple[Action, ...]:
        super().add(outcome)
        return outcome.actions

    def committed(self, number: int) -> tuple[Action, ...]:
        super().committed(number)
        return ()


class _AnswersRepeats(CommitGate):
    """The answer to a repeat goes at once, for its own outcome changes nothing.

    Over the connection of the first packet it could not overtake; over a new one it does.
    """

    __slots__ = ()
    answer: type[Action]

    def add(self, outcome: Outcome) -> tuple[Action, ...]:
        if not outcome.changes and [type(each) for each in outcome.actions] == [self.answer]:
            return outcome.actions
        return super().add(outcome)


class AnswersRepeatsWithPubrec(_AnswersRepeats):
    """A PUBLISH that is repeated is answered before the first one is durable."""

    __slots__ = ()
    answer = SendPubrec


class AnswersRepeatsWithPubcomp(_AnswersRepeats):
    """The same for PUBREL."""

    __slots__ = ()
    answer = SendPubcomp
