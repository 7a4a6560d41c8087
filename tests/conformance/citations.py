"""Where the code names which statement: module and function, found by the ids in its text."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from attrs import frozen

__all__ = ["Place", "cited"]

_ID = re.compile(
    r"(?P<old>3\.1\.1 )?(?P<id>MQTT-\d+\.\d+\.\d+-\d+|NN-\d+\.\d+[a-z]?)"
    r"(?P<to>\]? to \[?(?P<last>MQTT-\d+\.\d+\.\d+-\d+|NN-\d+\.\d+))?"
    r"|(?<=\[)(?P<short>\d+\.\d+\.\d+-\d+)(?=\])"  # as error messages have it
)


@frozen(order=True)
class Place:
    """A function, a class or a table of a module.

    Attributes:
        path: The module's file, relative to the root of the package.
        name: Qualified name; empty: the module itself.
    """

    path: str
    name: str


def cited(package: Path, leave_out: tuple[str, ...] = ()) -> dict[str, list[Place]]:
    """Statement to the places that name it, in order of the files; 5.0 unless 3.1.1 is named."""
    found: dict[str, dict[Place, None]] = {}
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package).as_posix()
        if relative.startswith(leave_out):
            continue
        text = path.read_text()
        owners = _owners(ast.parse(text))
        for number, line in enumerate(text.splitlines(), start=1):
            for match in _ID.finditer(line):
                place = Place(relative, owners.get(number, ""))
                for statement in _statements(match):
                    found.setdefault(statement, {})[place] = None
    return {statement: list(places) for statement, places in found.items()}


def _statements(match: re.Match[str]) -> list[str]:
    """What one citation names: "NN-7.4 to NN-7.9" is six rules."""
    if match["short"] is not None:
        return [f"5.0 MQTT-{match['short']}"]
    first, last = match["id"], match["last"]
    ids = [first]
    if last is not None and re.split(r"[.-]\d+$", first)[0] == re.split(r"[.-]\d+$", last)[0]:
        stem, low = re.fullmatch(r"(.*[.-])(\d+)", first).groups()  # type: ignore[union-attr]
        high = re.search(r"\d+$", last)[0]  # type: ignore[index]
        ids = [f"{stem}{number}" for number in range(int(low), int(high) + 1)]
    if first.startswith("NN-"):
        return ids
    version = "3.1.1" if match["old"] else "5.0"
    return [f"{version} {each}" for each in ids]


def _owners(tree: ast.Module) -> dict[int, str]:
    """Line to the innermost function, class or table that it stands in."""
    owners: dict[int, str] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            name = None
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = prefix + node.name
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if isinstance(target, ast.Name):
                    name = prefix + target.id
            if name is None:
                continue
            assert node.end_lineno is not None
            for number in range(node.lineno, node.end_lineno + 1):
                owners[number] = name
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                visit(node.body, name + ".")

    visit(tree.body, "")
    return owners
