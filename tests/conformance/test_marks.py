"""The collector sees every way of marking, and says so of each mark that proves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from .citations import Place, cited
from .ledger import Ledger, weigh
from .marks import Mark, collect

HEAD = "import pytest\nspec = pytest.mark.spec\n"
KINDS = ("spec", "fault")


def written(root: Path, text: str, name: str = "test_it.py") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + text)
    return root


def marks(root: Path, text: str) -> list[tuple[str, str | int, bool]]:
    found, misuses = collect(written(root, text), KINDS)
    assert misuses == []
    return [(mark.test, mark.argument, mark.always) for mark in found]


# ---------------------------------------------------------------- where marks may stand


@pytest.mark.parametrize(
    "text",
    [
        "@spec('A')\ndef test_x(): ...\n",
        "@pytest.mark.spec('A')\ndef test_x(): ...\n",
        "from pytest import mark\n@mark.spec('A')\ndef test_x(): ...\n",
        "@spec('A')\nasync def test_x(): ...\n",
        "pytestmark = spec('A')\ndef test_x(): ...\n",
        "pytestmark = [pytest.mark.usefixtures('y'), spec('A')]\ndef test_x(): ...\n",
        "@pytest.mark.parametrize('n', [1, pytest.param(2, marks=spec('A'))])\n"
        "def test_x(n): ...\n",
        "@pytest.mark.parametrize('n', [pytest.param(2, marks=[spec('A')])])\ndef test_x(n): ...\n",
        "ROWS = [1, pytest.param(2, marks=spec('A'))]\n"
        "@pytest.mark.parametrize('n', ROWS)\ndef test_x(n): ...\n",
        "ROWS: list = [pytest.param(2, marks=spec('A'))]\n"
        "each = pytest.mark.parametrize('n', ROWS)\n@each\ndef test_x(n): ...\n",
        "proves_a = spec('A')\n@proves_a\ndef test_x(): ...\n",
        "from ..behavior.helpers import spec as proves\n@proves('A')\ndef test_x(): ...\n",
        "proves = pytest.mark.spec\n@proves('A')\ndef test_x(): ...\n",
    ],
)
def test_mark_is_seen_wherever_pytest_sees_it(tmp_path: Path, text: str) -> None:
    assert marks(tmp_path, text) == [("test_x", "A", True)]


@pytest.mark.parametrize(
    "text",
    [
        "@spec('A')\nclass TestY:\n    def test_x(self): ...\n",
        "class TestY:\n    pytestmark = spec('A')\n    def test_x(self): ...\n",
        "class TestY:\n    @spec('A')\n    def test_x(self): ...\n    def helper(self): ...\n",
    ],
)
def test_mark_of_a_class_is_one_of_its_tests(tmp_path: Path, text: str) -> None:
    assert marks(tmp_path, text) == [("TestY.test_x", "A", True)]


def test_several_arguments_marks_and_tests(tmp_path: Path) -> None:
    text = (
        "@spec('A', 'B')\n@spec('C')\n@pytest.mark.fault(3)\ndef test_x(): ...\n"
        "@spec('A')\ndef test_y(): ...\n"
    )
    found, _ = collect(written(tmp_path, text, "deep/er/test_it.py"), KINDS)
    assert [(each.kind, each.argument, each.test) for each in found] == [
        ("spec", "A", "test_x"),
        ("spec", "B", "test_x"),
        ("spec", "C", "test_x"),
        ("fault", 3, "test_x"),
        ("spec", "A", "test_y"),
    ]
    assert {each.path for each in found} == {"deep/er/test_it.py"}


def test_function_of_the_same_name_is_no_mark(tmp_path: Path) -> None:
    text = "def fault(number): ...\n@spec('A')\ndef test_x():\n    fault(99)\n"
    assert marks(tmp_path, text) == [("test_x", "A", True)]


# ---------------------------------------------------------------- marks that prove nothing


@pytest.mark.parametrize(
    "text",
    [
        "@spec('A')\ndef helper(): ...\n",
        "@spec('A')\nclass Helper:\n    def test_x(self): ...\n",
        "def test_x():\n    @spec('A')\n    def inner(): ...\n",
        "ROWS = [pytest.param(2, marks=spec('A'))]\ndef test_x(): ...\n",
        "unused = spec('A')\n",
        "@spec()\ndef test_x(): ...\n",
        "@spec(f'{1}')\ndef test_x(): ...\n",
        "NAME = 'A'\n@spec(NAME)\ndef test_x(): ...\n",
        "@spec(statement='A')\ndef test_x(): ...\n",
    ],
)
def test_mark_that_pytest_would_never_see_or_that_says_nothing(tmp_path: Path, text: str) -> None:
    _, misuses = collect(written(tmp_path, text), KINDS)
    assert len(misuses) == 1


@pytest.mark.parametrize(
    "leaver",
    [
        "@pytest.mark.skip",
        "@pytest.mark.skip(reason='')",
        "@pytest.mark.skipif(True, reason='')",
        "@pytest.mark.xfail",
        "@pytest.mark.nightly",
    ],
)
def test_test_that_is_left_out_at_times_is_no_proof(tmp_path: Path, leaver: str) -> None:
    assert marks(tmp_path, f"{leaver}\n@spec('A')\ndef test_x(): ...\n") == [("test_x", "A", False)]
    text = f"pytestmark = [{leaver[1:]}]\n@spec('A')\ndef test_x(): ...\n"
    assert marks(tmp_path, text) == [("test_x", "A", False)]


# ---------------------------------------------------------------- citations


def test_citation_has_its_function_or_its_table(tmp_path: Path) -> None:
    (tmp_path / "wire").mkdir()
    (tmp_path / "wire" / "a.py").write_text(
        '"""NN-1.1."""\n'
        "TABLE = (\n    1,  # MQTT-1.2.3-4\n)\n"
        "class C:\n"
        '    """MQTT-1.2.3-5 to MQTT-1.2.3-7."""\n'
        "    def f(self):\n"
        '        return 1  # 3.1.1 MQTT-1.2.3-4; "why [1.2.3-9]"\n'
    )
    wire = "wire/a.py"
    assert cited(tmp_path) == {
        "NN-1.1": [Place(wire, "")],
        "5.0 MQTT-1.2.3-4": [Place(wire, "TABLE")],
        "5.0 MQTT-1.2.3-5": [Place(wire, "C")],
        "5.0 MQTT-1.2.3-6": [Place(wire, "C")],
        "5.0 MQTT-1.2.3-7": [Place(wire, "C")],
        "3.1.1 MQTT-1.2.3-4": [Place(wire, "C.f")],
        "5.0 MQTT-1.2.3-9": [Place(wire, "C.f")],
    }
    assert cited(tmp_path, ("wire/",)) == {}


# ---------------------------------------------------------------- a ledger with holes


def without(ledger: Ledger, *, key: str) -> Ledger:
    """The ledger as it would be if no test had this mark."""
    given = [mark for found in ledger.proofs.values() for mark in found]
    given += [mark for found in ledger.faults.values() for mark in found]
    return weigh([mark for mark in given if str(mark.argument) != key], [], dict(ledger.places))


@pytest.mark.parametrize(
    "key", ["5.0 MQTT-2.2.1-2", "3.1.1 MQTT-4.3.3-1 (d)", "NN-3.5", "5.0 MQTT-4.4.0-1 (d)"]
)
def test_statement_that_loses_its_mark_is_missed(ledger: Ledger, key: str) -> None:
    assert ledger.unproven() == []
    assert without(ledger, key=key).unproven() == [key]


def test_fault_that_loses_its_mark_is_missed(ledger: Ledger) -> None:
    assert without(ledger, key="37").untested_faults() == [37]


def test_statement_that_no_branch_names_is_missed(ledger: Ledger) -> None:
    places = {key: places for key, places in ledger.places.items() if key != "NN-3.5"}
    given = [mark for found in ledger.proofs.values() for mark in found]
    assert weigh(given, [], places).unplaced() == ["NN-3.5"]


@pytest.mark.parametrize(
    "argument",
    [
        "MQTT-4.3.3-6",
        "3.1 MQTT-4.3.3-6",
        "5.0 MQTT-2.2.1-1",
        "5.0 MQTT-4.3.3-99",
        "3.1.1 MQTT-4.3.3-1 (g)",
        "5.0 MQTT-2.2.1-2 (a)",
        "NN-99.1",
        "nonsense",
        7,
    ],
)
def test_mark_that_names_nothing_is_told(argument: str | int) -> None:
    ledger = weigh([Mark("spec", argument, "test_it.py", "test_x")], [], {})
    assert ledger.unknown == [f"test_it.py::test_x: {argument}"]
    assert ledger.proofs == {}


@pytest.mark.parametrize(
    ("kind", "argument"), [("spec", "5.0 MQTT-4.8.2-4"), ("spec", "NN-13.2"), ("fault", 36)]
)
def test_mark_that_claims_what_is_not_there_yet_is_told(kind: str, argument: str | int) -> None:
    ledger = weigh([Mark(kind, argument, "test_it.py", "test_x")], [], {})
    assert ledger.not_there == [f"test_it.py::test_x: {argument}"]


@pytest.mark.parametrize("argument", [44, 0, "10"])
def test_fault_that_nobody_shipped_is_told(argument: str | int) -> None:
    ledger = weigh([Mark("fault", argument, "test_it.py", "test_x")], [], {})
    assert len(ledger.unknown) == 1


def test_citation_that_names_nothing_is_told() -> None:
    ledger = weigh([], [], {"5.0 MQTT-9.9.9-9": [Place("a.py", "f")]})
    assert ledger.unknown == ["a.py: 5.0 MQTT-9.9.9-9"]


@pytest.mark.parametrize("path", ["kit/test_it.py", "live/test_it.py", "mutation/test_it.py"])
def test_test_of_something_else_proves_nothing_of_the_library(path: str) -> None:
    mark = Mark("spec", "5.0 MQTT-2.2.1-2", path, "test_x")
    assert weigh([mark], [], {}).proofs == {}


def test_general_mark_is_no_proof_of_a_duty() -> None:
    mark = Mark("spec", "3.1.1 MQTT-4.3.3-1", "test_it.py", "test_x")
    assert "3.1.1 MQTT-4.3.3-1 (a)" in weigh([mark], [], {}).unproven()
