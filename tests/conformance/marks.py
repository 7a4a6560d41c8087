"""Which test carries which mark: read from the source, so that no selection of tests hides one.

Marks count on functions, on classes, on modules (`pytestmark`) and on single parameters, also
where a decorator uses a constant of the module that holds them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

__all__ = ["Mark", "Misuse", "collect"]

SOMETIMES = frozenset({"skip", "skipif", "xfail", "nightly"})
"""Marks of tests that prove nothing in a run that leaves them out."""


@frozen
class Mark:
    """One argument of one mark on one test.

    Attributes:
        kind: The mark's name.
        argument: What it names: a statement or the number of a fault.
        path: The test's module, relative to the root of the tests.
        test: The test's name, with that of its class.
        always: Whether an ordinary run runs the test.
    """

    kind: str
    argument: str | int
    path: str
    test: str
    always: bool = True


@frozen
class Misuse:
    """A mark that proves nothing, and why."""

    path: str
    name: str
    why: str


def collect(root: Path, kinds: tuple[str, ...]) -> tuple[list[Mark], list[Misuse]]:
    """All marks of these kinds in the tests below a directory, and what is wrong with some."""
    marks: list[Mark] = []
    misuses: list[Misuse] = []
    for path in sorted(root.rglob("*.py")):
        text = path.read_text()
        if not any(kind in text for kind in kinds):
            continue
        module = _Module(path.relative_to(root).as_posix(), kinds)
        module.read(ast.parse(text))
        marks += module.marks
        misuses += module.misuses
    return marks, misuses


def _attribute_of_mark(node: ast.expr) -> str | None:
    """`spec` for `mark.spec` and `pytest.mark.spec`."""
    if not isinstance(node, ast.Attribute):
        return None
    owner = node.value
    is_mark = isinstance(owner, ast.Attribute) and owner.attr == "mark"
    return node.attr if is_mark or (isinstance(owner, ast.Name) and owner.id == "mark") else None


class _Module:
    """The marks of one module."""

    def __init__(self, path: str, kinds: tuple[str, ...]) -> None:
        self.path = path
        self.kinds = kinds
        self.marks: list[Mark] = []
        self.misuses: list[Misuse] = []
        self.constants: dict[str, ast.expr] = {}
        self.names: dict[str, str] = {}
        self.used: set[ast.Call] = set()

    def read(self, tree: ast.Module) -> None:
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("helpers"):
                self.names.update((each.asname or each.name, each.name) for each in node.names)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.constants[node.targets[0].id] = node.value
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                self.constants[ast.unparse(node.target)] = node.value
        for name, value in self.constants.items():
            kind = _attribute_of_mark(value)
            if kind is not None:
                self.names[name] = kind
        whole = [self.constants["pytestmark"]] if "pytestmark" in self.constants else []
        self._read_body(tree.body, "", whole)
        for call in self._calls(tree):
            if call not in self.used:
                self._misuse(f"line {call.lineno}", "stands on nothing that pytest collects")

    def _read_body(self, body: list[ast.stmt], prefix: str, outer: list[ast.expr]) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
                own = [
                    each.value
                    for each in node.body
                    if isinstance(each, ast.Assign)
                    and isinstance(each.targets[0], ast.Name)
                    and each.targets[0].id == "pytestmark"
                ]
                inner = [*outer, *own, *node.decorator_list]
                self._read_body(node.body, f"{prefix}{node.name}.", inner)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
                "test"
            ):
                self._read_test(prefix + node.name, [*outer, *node.decorator_list])

    def _read_test(self, name: str, decorators: list[ast.expr]) -> None:
        always = not any(self._leaves_out(decorator) for decorator in decorators)
        for decorator in decorators:
            for call in self._calls(*self._resolved(decorator)):
                self.used.add(call)
                kind = self._mark_name(call.func)
                assert kind is not None
                if call.keywords or not call.args:
                    self._misuse(name, f"{kind} takes positional arguments, and at least one")
                for argument in call.args:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str | int):
                        self.marks.append(Mark(kind, argument.value, self.path, name, always))
                    else:
                        self._misuse(name, f"{ast.unparse(argument)} is not written out")

    def _mark_name(self, node: ast.expr) -> str | None:
        """The mark that this is, be it by a name of its own."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        return _attribute_of_mark(node)

    def _leaves_out(self, decorator: ast.expr) -> bool:
        """Whether a mark on all of the test (not on one parameter) leaves it out at times."""
        nodes = decorator.elts if isinstance(decorator, ast.List | ast.Tuple) else [decorator]
        names = {
            self._mark_name(node.func if isinstance(node, ast.Call) else node)
            for each in nodes
            for node in (self.constants.get(each.id, each) if isinstance(each, ast.Name) else each,)
        }
        return bool(names & SOMETIMES)

    def _resolved(self, decorator: ast.expr) -> Iterator[ast.expr]:
        """The decorator, and what it gets from constants of the module."""
        seen: set[str] = set()
        todo = [decorator]
        while todo:
            node = todo.pop()
            yield node
            for each in ast.walk(node):
                if isinstance(each, ast.Name) and each.id in self.constants and each.id not in seen:
                    seen.add(each.id)
                    todo.append(self.constants[each.id])

    def _calls(self, *nodes: ast.AST) -> Iterator[ast.Call]:
        for node in nodes:
            for each in ast.walk(node):
                if isinstance(each, ast.Call) and self._mark_name(each.func) in self.kinds:
                    yield each

    def _misuse(self, name: str, why: str) -> None:
        self.misuses.append(Misuse(self.path, name, why))
