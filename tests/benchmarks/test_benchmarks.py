"""Every benchmark runs and tells the figures that it promises; no time is judged here."""

from __future__ import annotations

import json
import math

import pytest

from .__main__ import BENCHES, main
from .timing import Bench, Figure, Scale, Skipped

_TINY = Scale(divisor=2_000, rounds=2)
_DEMANDED = {
    "qos1_fanout10_vs_floor",
    "qos1_fanout100_vs_floor",
    "session_bytes",
    "session_bytes_shared",
    "queued_bytes_deep",
    "queued_bytes_single",
    "depth_growth",
    "filters_growth",
    "deadline_cycle_us",
    "expiry_slice_ms",
    "changes_overhead",
    "queued_bytes_deep_durable",
    "sqlite_vs_file",
    "sqlite_backlog",
    "durable_msgs_per_s",
    "durable_puback_p99_ms",
    "elision_rows",
    "restore_s",
    "disk_inline_overhead",
    "disk_fanout10",
}


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.names[0])
def test_bench_tells_all_its_figures(bench: Bench) -> None:
    try:
        figures = list(bench.run(_TINY))
    except Skipped as reason:
        pytest.skip(str(reason))
    assert {figure.name for figure in figures} == set(bench.names)
    for figure in figures:
        assert math.isfinite(figure.value), figure
        assert figure.unit in {"x", "us", "ms", "s", "1/s", "B", "objects", "rows"}


def test_names_are_unique_and_hold_what_is_demanded() -> None:
    names = [name for bench in BENCHES for name in bench.names]
    assert len(names) == len(set(names))
    assert set(names) >= _DEMANDED


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.benchmarks.__main__.FULL", _TINY)
    monkeypatch.setattr("tests.benchmarks.__main__.QUICK", _TINY)


@pytest.mark.usefixtures("tiny")
def test_each_figure_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["qos1_fanout10_vs", "connect_disconnect"]) == 0
    lines = capsys.readouterr().out.splitlines()
    figures = [Figure(name, float(value), unit) for name, value, unit in map(str.split, lines)]
    assert [figure.name for figure in figures] == [
        "qos1_fanout10_vs_floor",
        "connect_disconnect_us",
        "connect_disconnect_10_in_flight_us",
    ]


@pytest.mark.usefixtures("tiny")
def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--json", "session_bytes"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert list(figures) == ["session_bytes", "session_bytes_shared"]
    assert all(value > 0 for value in figures.values())


def test_unknown_name_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_figure"])
    assert "no figure begins with 'no_such_figure'" in capsys.readouterr().err
