"""The testing kit's page in docs/reference/ is complete, and holds nothing that does not exist."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from types import ModuleType
from typing import Any

import attrs
import pytest

from mqtt_sessions import testing
from mqtt_sessions.testing import strategies
from mqtt_sessions.testing.__main__ import main
from mqtt_sessions.testing.judge import Judge
from mqtt_sessions.testing.machine import SessionStateMachine
from mqtt_sessions.testing.moves import Profile
from mqtt_sessions.testing.transcript import Failure, Step
from tests.test_reference import REFERENCE, rows, shown_default, shown_signature

PAGE = (REFERENCE / "testing.md").read_text()


def modules() -> dict[str, str]:
    """The text about each module, by its name."""
    parts = re.split(r"^## `([\w.]+)`$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def sections(text: str) -> dict[str, str]:
    """The text about each name that a module offers."""
    parts = re.split(r"^### `(\w+)(?:\(.*\))?`$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def imported(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_without_hypothesis_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['hypothesis'] = None; import mqtt_sessions.testing"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: ")
    assert "pip install 'mqtt-sessions[testing]'" in last


@pytest.mark.parametrize("steps", ["0", "-1", "many"])
def test_steps_that_prove_nothing_are_a_usage_error(
    steps: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--steps", steps])
    assert raised.value.code == 2
    assert "--steps" in capsys.readouterr().err


ABOUT = {name: text for part in modules().values() for name, text in sections(part).items()}


@pytest.mark.parametrize("module", modules())
def test_each_public_name_is_told_where_it_is(module: str) -> None:
    text = modules()[module]
    named = [cells[0].strip("`").partition("(")[0] for cells in rows(text, "strategy")]
    assert sorted([*sections(text), *named]) == sorted(imported(module).__all__)


def test_what_is_offered_in_one_place_is_told_where_it_is_defined() -> None:
    told = {name for module in modules() for name in imported(module).__all__}
    assert set(testing.__all__) - {"strategies"} <= told


def test_no_module_is_forgotten() -> None:
    """Modules whose names begin with that of a listed one are parts of it."""
    home = REFERENCE.parent.parent / "mqtt_sessions" / "testing"
    listed = {name.rpartition(".")[2] for name in modules()}
    for path in home.glob("[a-z]*.py"):
        assert any(path.stem == each or path.stem.startswith(f"{each}_") for each in listed), path


@pytest.mark.parametrize("cls", [Profile, Step, Failure])
def test_every_field_with_type_and_default(cls: type) -> None:
    given = rows(ABOUT[cls.__name__], "field")
    assert [cells[:3] for cells in given] == [
        [f"`{field.name}`", str(field.type).replace(" | ", " or "), shown_default(field.default)]
        for field in attrs.fields(cls)
    ]
    assert all(cells[3] for cells in given)


def test_every_strategy_with_its_parameters() -> None:
    given = [cells[0] for cells in rows(modules()[strategies.__name__], "strategy")]
    functions = [getattr(strategies, name) for name in strategies.__all__]
    assert given == [f"`{each.__name__}{shown_signature(each)}`" for each in functions]


def functions_of(cls: type) -> set[str]:
    return {name for name, held in vars(cls).items() if inspect.isfunction(held)}


def test_every_member_of_the_state_machine() -> None:
    text = ABOUT["SessionStateMachine"]
    # unittest puts lists of its own on a class that it has run
    declared = {*SessionStateMachine.__annotations__, *functions_of(SessionStateMachine)}
    own = {name: vars(SessionStateMachine)[name] for name in declared if name[0] != "_"}
    methods = {name for name in functions_of(SessionStateMachine) if name[0] != "_"}
    told = [cells[0].strip("`") for cells in rows(text, "method")]
    assert sorted(told) == sorted(name + shown_signature(own[name]) for name in methods)
    given = {cells[0].strip("`"): cells[1].strip("`") for cells in rows(text, "attribute")}
    assert set(given) == set(own) - methods
    names: dict[str, Any] = {name: getattr(imported("mqtt_sessions"), name) for name in _VALUES}
    names |= {"EVERYTHING": Profile(), "Model": SessionStateMachine.model}
    for name, shown in given.items():
        assert eval(shown, names) == own[name]


_VALUES = ("ExpiryPolicy", "SessionLimits", "ServerOptions")


def test_every_member_of_the_judge() -> None:
    judge = Judge(imported("mqtt_sessions").SessionStore())
    methods = {name + shown_signature(held) for name, held in vars(Judge).items() if name[0] != "_"}
    held = {name for name in vars(judge) if name[0] != "_"}
    told = [cells[0].strip("`") for cells in rows(ABOUT["Judge"], "member")]
    assert sorted(told) == sorted(methods | held)
