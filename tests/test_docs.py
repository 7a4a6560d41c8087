"""Every example in README.md and in docs/ runs.

The Python blocks of a page run in order, in one namespace: those with prompts as doctests, the
others as they stand.
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def ident(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[tuple[str, int, str]]:
    """Language, line and text of each fenced block."""
    text = page.read_text()
    for fence in FENCE.finditer(text):
        yield fence[1], text.count("\n", 0, fence.start(2)), fence[2]


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_examples_run(page: Path) -> None:
    names: dict[str, Any] = {"__name__": page.stem}
    failures: list[str] = []
    for language, line, text in blocks(page):
        if language != "python":
            continue
        if not text.startswith(">>>"):
            exec(compile("\n" * line + text, str(page), "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(text, names, ident(page), str(page), line)
        doctest.DocTestRunner(optionflags=FLAGS).run(test, out=failures.append, clear_globs=False)
        names = test.globs
    assert not failures, "".join(failures)


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_no_block_escapes_by_its_language(page: Path) -> None:
    assert {language for language, _, _ in blocks(page)} <= {"python", "sh", "toml", "text"}
    assert page.read_text().count("\n```") % 2 == 0
    assert ">>>" not in FENCE.sub("", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=ident)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", FENCE.sub("", page.read_text())):
        if "://" not in target:
            assert (page.parent / target).exists(), target
