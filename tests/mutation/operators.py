"""What cosmic-ray's operators leave alone: rows of literal tables, and whole statements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import parso
from cosmic_ray.operators.operator import Example, Operator

__all__ = ["RemoveStatement", "RemoveTableRow", "ReplaceTableCell"]

Position = tuple[tuple[int, int], tuple[int, int]]


def _rows(node: Any) -> list[tuple[int, list[Any]]]:
    """(index of the value among the children, its cells) of a dict whose values are tuples."""
    if node.type != "dictorsetmaker" or getattr(node.children[1], "value", "") != ":":
        return []
    found = []
    for index in range(2, len(node.children), 4):
        atom = node.children[index]
        if atom.type != "atom" or atom.children[1].type != "testlist_comp":
            return []
        found.append((index, atom.children[1].children[::2]))
    return found


class ReplaceTableCell(Operator):
    """Puts into one cell of a row what the column holds in the next row that differs."""

    def _choices(self, node: Any) -> Iterator[tuple[Any, str]]:
        rows = _rows(node)
        for number, (_, cells) in enumerate(rows):
            for column, cell in enumerate(cells):
                others = [row[column] for _, row in rows[number + 1 :] + rows[:number]]
                text = cell.get_code(include_prefix=False)
                for other in others:
                    if (replacement := other.get_code(include_prefix=False)) != text:
                        yield cell, replacement
                        break

    def mutation_positions(self, node: Any) -> list[Position]:
        return [(cell.start_pos, cell.end_pos) for cell, _ in self._choices(node)]

    def mutate(self, node: Any, index: int) -> Any:
        cell, replacement = list(self._choices(node))[index]
        siblings = cell.parent.children
        siblings[siblings.index(cell)] = parso.parse(f" {replacement}")
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("x = {1: (a, b), 2: (c, d)}", "x = {1: ( c, b), 2: (c, d)}"),)


class RemoveTableRow(Operator):
    """Takes one row out."""

    def mutation_positions(self, node: Any) -> list[Position]:
        rows = _rows(node)  # all at once: the node is mutated between two of them
        return [(node.children[at - 2].start_pos, node.children[at].end_pos) for at, _ in rows]

    def mutate(self, node: Any, index: int) -> Any:
        value = _rows(node)[index][0]
        del node.children[value - 2 : value + 2]
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("x = {1: (a, b), 2: (c, d)}", "x = { 2: (c, d)}"),)


class RemoveStatement(Operator):
    """Puts `pass` in the place of one statement of a function; assertions stay."""

    KINDS = frozenset(
        {"expr_stmt", "atom_expr", "del_stmt", "return_stmt", "raise_stmt", "keyword"}
    )

    def mutation_positions(self, node: Any) -> Iterator[Position]:
        if node.type != "simple_stmt":
            return
        statement = node.children[0]
        if statement.type not in self.KINDS or getattr(statement, "value", "") == "pass":
            return
        around = node.parent
        while around is not None and around.type not in ("funcdef", "classdef"):
            around = around.parent
        if around is not None and around.type == "funcdef":
            yield statement.start_pos, statement.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        assert index == 0
        prefix = node.children[0].get_first_leaf().prefix
        node.children[0] = parso.parse(f"{prefix}pass")
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("def f():\n    x = 1\n", "def f():\n    pass\n"),)
