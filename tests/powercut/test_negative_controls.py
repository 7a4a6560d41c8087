"""What must not be promised is seen to be broken: else the other tests would prove nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_module

require_module("apsw")

from tests.powercut import gates  # noqa: E402
from tests.powercut.ledger import Violated  # noqa: E402
from tests.powercut.life import Life  # noqa: E402

CUTS = 10


def first_violation(most_cuts: int, directory: Path, **broken: Any) -> Violated:
    """What is found within so many cuts."""
    cuts = seed = 0
    while cuts < most_cuts:
        place = directory / str(seed)
        place.mkdir()
        life = Life(seed, place, **broken)
        try:
            life.run(CUTS)
        except Violated as violated:
            return violated
        cuts += life.cuts
        seed += 1
    pytest.fail(f"{cuts} cuts found nothing")


def test_a_log_that_is_not_synchronized_is_found(tmp_path: Path) -> None:
    violated = first_violation(100, tmp_path, synchronous="NORMAL")
    assert violated.kind == "session lost"


def test_a_gate_that_sends_before_it_commits_is_found(tmp_path: Path) -> None:
    violated = first_violation(100, tmp_path, gate=gates.SendsFirst)
    assert violated.kind == "session lost"


def test_pubrec_that_overtakes_the_first_batch_over_a_new_connection_is_found(
    tmp_path: Path,
) -> None:
    violated = first_violation(1000, tmp_path, gate=gates.AnswersRepeatsWithPubrec)
    assert violated.kind in {"identifier lost", "retained message", "lost"}


def test_pubcomp_that_overtakes_the_first_batch_over_a_new_connection_is_found(
    tmp_path: Path,
) -> None:
    violated = first_violation(1000, tmp_path, gate=gates.AnswersRepeatsWithPubcomp)
    assert violated.kind in {"identifier not free", "lost"}


def test_the_account_of_a_violation_tells_how_to_repeat_it(tmp_path: Path) -> None:
    violated = first_violation(100, tmp_path, synchronous="NORMAL")
    (account,) = violated.__notes__
    assert account.startswith("seed ")
    assert "- - - power cut" in account
    assert "ClientConnected connection=" in account
