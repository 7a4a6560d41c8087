"""The how-to's ten lines, at a broker that its author has never seen: Mosquitto."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from mqtt_sessions.testing.transcript import Failure
from tests.live.brokers import start_mosquitto, version_of
from tests.test_docs import blocks

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = DOCS / "how-to" / "judge-a-broker.md"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    program = start_mosquitto(tmp_path, stock=True)
    yield program.port
    program.stop()


def judged(port: int, runs: int) -> tuple[Any, str]:
    """The test case of the page, after its run, and the notes of its error."""
    code = next(text for language, _, text in blocks(PAGE) if language == "python")
    assert "1883" in code
    names: dict[str, Any] = {"__name__": "page"}
    exec(code.replace("1883", str(port)), names)
    kind = names["TestBroker"]
    kind.settings = settings(
        max_examples=runs, stateful_step_count=30, derandomize=True, database=None
    )
    case = kind("test_session_semantics")
    try:
        case.test_session_semantics()
    except AssertionError as error:
        return case, "".join(error.__notes__)
    return case, ""


def test_ten_lines_find_where_mosquitto_differs(port: int) -> None:
    case, notes = judged(port, 30)
    failure = case.judge.failure
    assert isinstance(failure, Failure), "Mosquitto differs no more, and the page says it does"
    assert len(case.judge.steps) <= 6
    assert f"✗  {failure.rule}: " in notes
    assert "sequenceDiagram" in notes

    shown = next(text for language, _, text in blocks(PAGE) if language == "text")
    told_of = re.search(r"Mosquitto ([\d.]+):", PAGE.read_text())
    assert told_of is not None
    if version_of("mosquitto") == told_of[1]:  # another version may differ elsewhere
        heads = [line[14:32].strip() for line in shown.splitlines()]
        found = [line[14:32].strip() for line in notes.splitlines() if line]
        assert found[: len(heads) - 1] == heads[:-1], notes
        assert [line.strip() for line in shown.splitlines()] == [
            line.strip() for line in notes.split("\nThe same")[0].splitlines() if line
        ]
        assert failure.rule == re.findall(r"✗  (\S+):", shown)[-1]
