"""Which module may import which, and what no module of the core may import."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mqtt_sessions"

# Every module imports only from layers above its own, or from what stands before it in its own.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("_heap", "_values", "errors", "reason_codes"),
    ("messages", "subscriptions", "topics"),
    ("_validation", "policy"),  # before events, since ClientConnected carries a policy
    ("events", "actions", "notices"),
    ("snapshots", "changes"),
    ("packet_ids", "flows"),
    ("deadlines", "queue"),
    ("turn", "rows", "connection", "state", "recording"),
    ("gate",),
    ("wills", "snapshot_checks", "restoring", "recovering"),
    ("inbound", "outbound", "subscribing", "handshake"),
    ("lifecycle",),
    ("engine",),
    ("session",),
    ("topic_tree", "shared_groups", "retained"),
    ("retaining",),
    ("router",),
    ("store",),
    ("topic_aliases",),
)
RANKS = {
    name: (layer, place) for layer, names in enumerate(LAYERS) for place, name in enumerate(names)
}

# Clocks, sockets, files, tasks, logs and chance: everything that would make two runs differ.
IMPURE = {
    "asyncio",
    "datetime",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "queue",
    "random",
    "secrets",
    "select",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "uuid",
}
CORE = sorted(path for path in PACKAGE.glob("*.py") if path.stem != "__init__")
WIRE = sorted((PACKAGE / "wire").glob("*.py"))
JOURNALS = sorted((PACKAGE / "journals").glob("*.py"))
INSPECT = sorted((PACKAGE / "inspect").glob("*.py"))
TESTING = sorted((PACKAGE / "testing").glob("*.py"))
MODEL = [path for path in TESTING if path.stem.startswith("model")]

# What a broker takes in and gives out, as values; nothing that does anything with them.
VALUES = {
    "_values",
    "reason_codes",
    "messages",
    "subscriptions",
    "policy",
    "events",
    "actions",
    "notices",
}


def imports(path: Path, *, at_run_time: bool = False) -> Iterator[str]:
    """All modules that a file imports by absolute name, those for type checking too if wanted."""
    return (name for name, for_types in imports_of(path) if not (at_run_time and for_types))


@cache
def tree_of(path: Path) -> ast.Module:
    """A file is parsed once for all tests that look at it."""
    return ast.parse(path.read_text(), str(path))


@cache
def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Each name that a file imports, and whether it does so for type checking only."""
    tree = tree_of(path)
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            assert node.module is not None
            names = [node.module]
            if node.module == "mqtt_sessions":
                names = [f"mqtt_sessions.{alias.name}" for alias in node.names]
        found += [(name, node in for_types) for name in names]
    return found


def own_imports(path: Path, *, at_run_time: bool = False) -> list[str]:
    return [
        name.removeprefix("mqtt_sessions.")
        for name in imports(path, at_run_time=at_run_time)
        if name.startswith("mqtt_sessions.")
    ]


def ident(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


@pytest.mark.parametrize("path", CORE, ids=ident)
def test_every_module_has_its_layer(path: Path) -> None:
    assert path.stem in RANKS


@pytest.mark.parametrize("path", CORE, ids=ident)
def test_a_module_imports_only_from_those_above_it(path: Path) -> None:
    for name in own_imports(path, at_run_time=True):
        assert RANKS[name] < RANKS[path.stem], f"{path.stem} imports {name}"


@pytest.mark.parametrize("path", CORE, ids=ident)
def test_types_too_come_from_above_or_from_the_same_layer(path: Path) -> None:
    for name in own_imports(path):
        assert RANKS[name][0] <= RANKS[path.stem][0], f"{path.stem} names types of {name}"


@pytest.mark.parametrize("path", [*CORE, *WIRE, PACKAGE / "__init__.py"], ids=ident)
def test_nothing_reads_a_clock_opens_a_socket_or_draws_a_number(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & IMPURE


@pytest.mark.parametrize("path", [*CORE, *WIRE, PACKAGE / "__init__.py"], ids=ident)
def test_only_the_two_dependencies_and_the_standard_library(path: Path) -> None:
    allowed = {
        "__future__",
        "abc",
        "array",
        "attrs",
        "bisect",
        "collections",
        "contextlib",
        "enum",
        "functools",
        "gc",
        "heapq",
        "itertools",
        "math",
        "mqtt_sessions",
        "operator",
        "sortedcontainers",
        "struct",
        "types",
        "typing",
    }
    assert {name.partition(".")[0] for name in imports(path)} <= allowed


@pytest.mark.parametrize("path", [*CORE, PACKAGE / "__init__.py"], ids=ident)
def test_nothing_imports_the_codec(path: Path) -> None:
    assert not [name for name in own_imports(path) if name.split(".")[0] == "wire"]


@pytest.mark.parametrize("path", [*CORE, *WIRE, PACKAGE / "__init__.py"], ids=ident)
def test_nothing_imports_the_testing_kit(path: Path) -> None:
    assert not [name for name in own_imports(path) if name.split(".")[0] == "testing"]


@pytest.mark.parametrize("path", [*CORE, *WIRE, PACKAGE / "__init__.py"], ids=ident)
def test_nothing_imports_the_journals(path: Path) -> None:
    assert not [name for name in own_imports(path) if name.split(".")[0] == "journals"]


@pytest.mark.parametrize("path", JOURNALS, ids=ident)
def test_journals_know_values_and_changes_and_no_machinery(path: Path) -> None:
    used = {name.split(".")[0] for name in own_imports(path)}
    assert used <= {*VALUES, "errors", "subscriptions", "snapshots", "changes", "journals"}


@pytest.mark.parametrize("path", JOURNALS, ids=ident)
def test_journals_need_only_the_standard_library_and_no_clock(path: Path) -> None:
    used = {name.partition(".")[0] for name in imports(path)}
    assert used <= {*sys.stdlib_module_names, "attrs", "mqtt_sessions"}
    assert not used & {"datetime", "random", "socket", "time", "uuid"}


@pytest.mark.parametrize("path", [*CORE, *WIRE, *JOURNALS, *TESTING], ids=ident)
def test_nothing_imports_the_inspector(path: Path) -> None:
    assert not [name for name in own_imports(path) if name.split(".")[0] == "inspect"]


@pytest.mark.parametrize("path", INSPECT, ids=ident)
def test_the_inspector_knows_journals_and_no_machinery(path: Path) -> None:
    used = {name.split(".")[0] for name in own_imports(path)}
    assert used <= {*VALUES, "topics", "changes", "deadlines", "journals", "inspect"}


@pytest.mark.parametrize("path", INSPECT, ids=ident)
def test_only_its_tables_need_rich_and_only_its_command_reads_a_clock(path: Path) -> None:
    used = {name.partition(".")[0] for name in imports(path)}
    assert used <= {*sys.stdlib_module_names, "attrs", "mqtt_sessions", "rich"}
    assert "rich" not in used or path.stem == "tables"
    assert used & IMPURE <= {"__main__": {"io", "os", "sys", "time"}, "tables": {"sys"}}.get(
        path.stem, set()
    )


@pytest.mark.parametrize("path", MODEL, ids=ident)
def test_the_model_shares_nothing_with_the_core_but_values(path: Path) -> None:
    used = {name.split(".")[0] for name in own_imports(path) if not name.startswith("testing.")}
    assert used <= VALUES
    beside = [name for name in own_imports(path) if name.startswith("testing.")]
    assert all(name.removeprefix("testing.").startswith("model") for name in beside)


@pytest.mark.parametrize("path", TESTING, ids=ident)
def test_only_what_needs_hypothesis_imports_it(path: Path) -> None:
    wanted = path.stem in {"__init__", "strategies", "machine", "batches", "journals"}
    assert wanted or "hypothesis" not in {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", [*CORE, *WIRE], ids=ident)
def test_no_builtin_that_does_input_or_output(path: Path) -> None:
    called = {
        node.func.id
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "print", "input", "exec", "eval", "__import__"}


@pytest.mark.parametrize("path", [*CORE, *WIRE, *JOURNALS, *INSPECT, *TESTING], ids=ident)
def test_modules_stay_readable_at_one_go(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 660  # about 600, and a tenth of grace


@pytest.mark.parametrize("path", [*CORE, *WIRE, *JOURNALS, *INSPECT, *TESTING], ids=ident)
def test_functions_fit_on_a_screen(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            # about 70, and a tenth of grace
            assert node.end_lineno - node.lineno < 77, f"{path.stem}.{node.name}"
