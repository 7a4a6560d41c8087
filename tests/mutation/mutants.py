"""All mutants of one module: cosmic-ray's operators and ours, applied in memory."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

from .operators import RemoveStatement, RemoveTableRow, ReplaceTableCell

__all__ = ["MODULES", "ROOT", "Mutant", "mutants_of", "source_path"]

ROOT = Path(os.path.realpath(__file__)).parents[2]
MODULES = ("flows", "queue", "deadlines", "session", "store")
EAGER = frozenset({"flows"})
"""Modules whose functions run while they are imported: to patch them later is too late."""


class Mutant(NamedTuple):
    """One small fault.

    Attributes:
        module: Where, without the package.
        function: Qualified name of the function that differs; "" if what differs runs at import.
        line: Of the mutation, from 1.
        operator: Name of the operator.
        before: The line as it is.
        after: What it becomes.
        number: Tells apart mutants of like lines, from 0.
        source: The whole module, mutated.
    """

    module: str
    function: str
    line: int
    operator: str
    before: str
    after: str
    number: int
    source: str

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What names it whatever is added above or below."""
        return self.module, self.function, self.before, self.after, self.number

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line} {self.operator}\n  - {self.before}\n  + {self.after}"


def source_path(module: str) -> Path:
    """The file of a module of the package."""
    return ROOT / "mqtt_sessions" / f"{module}.py"


@cache
def _operators() -> tuple[Operator, ...]:
    provider = OperatorProvider()
    names = [name for name in provider if not provider[name].arguments()]
    ours = (ReplaceTableCell, RemoveTableRow, RemoveStatement)
    return (*(provider[name]() for name in names), *(operator() for operator in ours))


def _is_annotation(node: Any) -> bool:
    """Whether a node stands in an annotation, which nobody evaluates."""
    while (parent := node.parent) is not None:
        if parent.type in ("annassign", "tfpdef"):
            if node in parent.children[1:2] and parent.children[0].type == "operator":
                return True
            if parent.type == "tfpdef" and node is not parent.children[0]:
                return True
        if parent.type == "funcdef" and parent.annotation is node:
            return True
        node = parent
    return False


class _Undo:
    """The children of a node and of all below it, and the values of its leaves."""

    def __init__(self, node: Any) -> None:
        self.children = [(each, list(each.children)) for each in ast_nodes(node) if _inner(each)]
        self.values = [
            (leaf, leaf.value, leaf.prefix) for leaf in ast_nodes(node) if not _inner(leaf)
        ]

    def __call__(self) -> None:
        for node, children in self.children:
            node.children = children
        for leaf, value, prefix in self.values:
            leaf.value, leaf.prefix = value, prefix


def _inner(node: Any) -> bool:
    return hasattr(node, "children")


def _own(code: CodeType) -> tuple[object, ...]:
    """What a code object does by itself, without the functions in it and without positions."""
    consts = tuple(repr(each) for each in code.co_consts if not isinstance(each, CodeType))
    return (
        code.co_code,
        consts,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_flags,
        code.co_exceptiontable,
        tuple(each.co_name for each in code.co_consts if isinstance(each, CodeType)),
    )


def _signature(code: CodeType) -> tuple[object, ...]:
    """The same, with the functions in it."""
    return _own(code), *(_signature(each) for each in code.co_consts if isinstance(each, CodeType))


def _differing(before: CodeType, after: CodeType) -> Iterator[str]:
    """Qualified names of the outermost functions that differ; "" for what runs at import."""
    if _own(before) != _own(after):
        # CO_OPTIMIZED: a function, as against the body of a module or a class
        yield before.co_qualname if before.co_flags & 1 else ""
        return
    inner = [
        [each for each in code.co_consts if isinstance(each, CodeType)] for code in (before, after)
    ]
    for one, other in zip(*inner, strict=True):
        for name in _differing(one, other):
            yield before.co_qualname if before.co_flags & 1 else name


def _mutations(tree: Any) -> Iterator[tuple[str, tuple[int, int]]]:
    """(operator, position) of each mutation; the tree is mutated while it is told."""
    nodes = [node for node in ast_nodes(tree) if not _is_annotation(node)]
    for operator in _operators():
        for node in nodes:
            for index, (start, _) in enumerate(list(operator.mutation_positions(node))):
                parent = node.parent
                undo = _Undo(node)
                siblings = None if parent is None else list(parent.children)
                mutated = operator.mutate(node, index)
                if mutated is not node and parent is not None:
                    place = parent.children.index(node)
                    parent.children[place : place + 1] = [] if mutated is None else [mutated]
                yield type(operator).__name__, start
                undo()
                if parent is not None:
                    parent.children = siblings


def _lines(before: str, after: str) -> tuple[str, str]:
    """The lines that differ, from the first to the last."""
    one, other = before.splitlines(), after.splitlines()
    while one and other and one[0] == other[0]:
        del one[0], other[0]
    while one and other and one[-1] == other[-1]:
        del one[-1], other[-1]
    return _joined(one), _joined(other)


def _joined(lines: list[str]) -> str:
    return " ↵ ".join(line.strip() for line in lines if line.strip())


def mutants_of(module: str) -> list[Mutant]:
    """Every mutant of a module that compiles to something else, in order of lines."""
    path = source_path(module)
    source = path.read_text(encoding="utf-8")
    original = compile(source, str(path), "exec", dont_inherit=True)
    found: list[Mutant] = []
    seen = {_signature(original)}
    numbers: dict[tuple[str, ...], int] = {}
    tree = parso.parse(source)
    for operator, (line, _) in _mutations(tree):
        text = tree.get_code()
        try:
            with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
                code = compile(text, str(path), "exec", dont_inherit=True)
        except SyntaxError:
            continue
        if (signature := _signature(code)) in seen:
            continue  # the same to the interpreter as the original or as another mutant
        seen.add(signature)
        names = list(_differing(original, code))
        function = "" if len(names) > 1 or module in EAGER else names[0].partition(".<locals>")[0]
        before, after = _lines(source, text)
        like = (function, before, after)
        number = numbers[like] = numbers.get(like, -1) + 1
        found.append(Mutant(module, function, line, operator, before, after, number, text))
    assert tree.get_code() == source
    found.sort(key=lambda mutant: mutant.line)
    return found
