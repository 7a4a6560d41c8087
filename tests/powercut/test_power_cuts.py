"""What anybody was told survives any cut: 1,000 of them always, 10,000 more every night."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import require_module

require_module("apsw")

from tests.powercut.life import Life  # noqa: E402

CUTS = 10
"""Of one database in a row."""


def live(seeds: range, directory: Path) -> list[Life]:
    lives = []
    for seed in seeds:
        place = directory / str(seed)
        place.mkdir()
        life = Life(seed, place)
        life.run(CUTS)
        assert life.cuts == CUTS
        lives.append(life)
    return lives


@pytest.mark.unmeasured
@pytest.mark.parametrize("group", range(10))
def test_nothing_that_was_promised_is_lost(group: int, tmp_path: Path) -> None:
    """10 databases of 10 cuts each; what they live through is worth the name."""
    lives = live(range(10 * group, 10 * group + 10), tmp_path)
    assert sum(life.cuts_in_an_operation for life in lives) >= 20
    records = [record for life in lives for record in life.ledger.records.values()]
    assert sum(record.is_promised and bool(record.reached) for record in records) >= 100
    assert sum(record.called_up != {} for record in records) >= 10
    assert sum(record.is_will and bool(record.reached) for record in records) >= 5


@pytest.mark.nightly
@pytest.mark.parametrize("group", range(20))
def test_nothing_that_was_promised_is_lost_in_a_long_run(group: int, tmp_path: Path) -> None:
    live(range(1000 + 50 * group, 1000 + 50 * group + 50), tmp_path)
