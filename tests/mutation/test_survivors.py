"""The survivors that are explained: each in the source as it is, and told in the docs."""

from __future__ import annotations

from pathlib import Path

import pytest

from .survivors import Survivor, known, table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "mutants.md"


@pytest.mark.parametrize("survivor", known(), ids=lambda each: f"{each.module} {each.after}")
def test_a_survivor_mutates_a_line_that_there_is_and_has_a_reason(survivor: Survivor) -> None:
    source = (ROOT / "mqtt_sessions" / f"{survivor.module}.py").read_text(encoding="utf-8")
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    wanted = survivor.before.split(" ↵ ")
    assert any(lines[at : at + len(wanted)] == wanted for at in range(len(lines)))
    assert survivor.before != survivor.after
    assert len(survivor.reason.split()) > 2


def test_no_survivor_is_explained_twice() -> None:
    keys = [survivor[:4] for survivor in known()]
    assert len(keys) == len(set(keys))


def test_the_page_lists_them() -> None:
    assert table() in PAGE.read_text(encoding="utf-8")
