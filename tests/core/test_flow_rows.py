"""Rows of the literal tables that no packet of a peer can reach."""

from __future__ import annotations

import pytest

from mqtt_sessions.flows import SENDER_QOS_1, SENDER_QOS_2, Phase, Reply, Stimulus


@pytest.mark.parametrize(
    ("table", "phase"),
    [
        (SENDER_QOS_1, Phase.AWAITING_PUBACK),
        (SENDER_QOS_2, Phase.AWAITING_PUBREC),
        (SENDER_QOS_2, Phase.AWAITING_PUBCOMP),
    ],
    ids=["PUBACK", "PUBREC", "PUBCOMP"],
)
def test_a_message_is_never_sent_under_the_identifier_of_an_open_exchange(
    table: dict, phase: Phase
) -> None:
    """That the store keeps to it is shown beside the other rows, where it sends another message."""
    assert table[phase, Stimulus.SEND] == (phase, Reply.IGNORE)
