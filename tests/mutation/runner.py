"""Runs the tests against mutants, each in a forked process of its own.

Two ways lead to a mutated function. Most mutants differ in one function: the tests are imported and
collected once, and each child puts the mutated code into that function and runs the tests that
call it, those first that reach the mutated line, and of these the quickest. What differs elsewhere
(tables, defaults, decorators) is imported anew in each child, in the place of the original.

No file is written, and a child ends at the first test that fails.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from types import CodeType, FunctionType, ModuleType
from typing import Any, ClassVar, NamedTuple, NoReturn

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.bounded import bound_examples

from .mutants import Mutant, source_path

__all__ = ["Baseline", "Result", "limit_examples", "measure", "run"]

_MEMORY = 3 << 30
_ARGUMENTS = (
    *("-s", "-q", "--tb=native", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # Hypothesis is here already
    *("-W", "ignore::coverage.exceptions.CoverageWarning"),  # tables have no lines to reach
)
_KILLED = 77
"""The exit status of a child in which a test failed; no other tells of a failure."""
_SLOWER = 4
"""How many times longer than by itself a test may take before it counts as stuck; and a second."""


_OUTCOMES = {0: "survived", _KILLED: "killed", -signal.SIGPROF: "stuck"}


class Baseline(NamedTuple):
    """What the tests do without a mutant.

    Attributes:
        seconds: Test to processor time; those that pass.
        lines: Module to line to the tests that reach it.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]


class Result(NamedTuple):
    """What became of a mutant.

    Attributes:
        mutant: Which.
        outcome: "killed", "stuck" (killed: a test took too long) or "survived".
        by: The test that killed it.
        seconds: Processor time that it took.
    """

    mutant: Mutant
    outcome: str
    by: str
    seconds: float


# ---------------------------------------------------------------- processes


def _in_child(work: Callable[[int], None], output: str = os.devnull) -> tuple[int, int]:
    """Fork a process that does some work and says to a pipe how it goes: (its id, the pipe)."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    code = 1
    try:
        os.close(reader)
        null = os.open(output, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        work(writer)
        code = 0
    except Exception:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def _harvest(reader: int) -> str:
    with open(reader, encoding="utf-8", errors="replace") as pipe:
        return pipe.read()


def _watch(seconds: float) -> None:
    """Let SIGPROF end this process after so much processor time."""
    signal.setitimer(signal.ITIMER_PROF, seconds * _SLOWER + 1)


class _Plugin:
    """What is the same in all runs: no examples from elsewhere, none made smaller.

    Attributes:
        examples: The most that a property-based test tries; None: as many as it says.
    """

    examples: ClassVar[int | None] = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_itemcollected(self, item: pytest.Item) -> None:
        if self.examples is not None:
            bound_examples(item, self.examples)

    def pytest_configure(self) -> None:
        # Loaded behind what conftest.py loads; tests are decorated later, when they are collected.
        settings.register_profile(
            "mutation",
            settings.default,
            derandomize=True,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("mutation")


def _failed(call: pytest.CallInfo[None]) -> bool:
    return call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception)


def limit_examples(examples: int | None) -> None:
    """Bound what a property-based test tries, in all runs from now on."""
    _Plugin.examples = examples


# ---------------------------------------------------------------- the baseline


class _Measuring(_Plugin):
    """Runs all tests, noting how long each takes and which lines it reaches."""

    def __init__(self, modules: Iterable[str], writer: int) -> None:
        from coverage import Coverage

        self.paths = {module: str(source_path(module)) for module in modules}
        self.coverage = Coverage(
            data_file=None, config_file=False, include=list(self.paths.values())
        )
        self.writer = writer
        self.passed: dict[str, float] = {}
        self.failed: list[str] = []

    def pytest_collection_finish(self) -> None:
        self.coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.coverage.switch_context(item.nodeid)
        begun = time.process_time()
        self.passed[item.nodeid] = 0.0
        try:
            return (yield)
        finally:
            if item.nodeid in self.passed:
                self.passed[item.nodeid] = time.process_time() - begun

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.excinfo is not None:
            self.passed.pop(item.nodeid, None)
            if _failed(call):
                self.failed.append(item.nodeid)

    def pytest_sessionfinish(self) -> None:
        self.coverage.stop()
        data = self.coverage.get_data()
        lines = {
            module: {
                line: [test for test in tests if test in self.passed]
                for line, tests in data.contexts_by_lineno(path).items()
            }
            for module, path in self.paths.items()
        }
        with open(self.writer, "w", encoding="utf-8") as pipe:
            json.dump([self.passed, lines, self.failed], pipe)


def _load(text: str) -> Baseline:
    seconds, lines, failed = json.loads(text)
    if failed:
        raise RuntimeError(f"these tests fail without a mutant: {', '.join(failed)}")
    numbered = {
        module: {int(line): tests for line, tests in found.items()}
        for module, found in lines.items()
    }
    return Baseline(seconds, numbered)


def measure(modules: Sequence[str], tests: Sequence[str]) -> Baseline:
    """Run the tests once without a mutant.

    Raises:
        RuntimeError: Some test fails as it is.
    """

    def work(writer: int) -> None:
        pytest.main([*_ARGUMENTS, *tests], plugins=[_Measuring(modules, writer)])

    with tempfile.NamedTemporaryFile() as output:
        child, reader = _in_child(work, output.name)
        text = _harvest(reader)
        os.waitpid(child, 0)
        if not text:
            raise RuntimeError(output.read().decode(errors="replace"))
    return _load(text)


# ---------------------------------------------------------------- one mutant


def _functions(code: CodeType) -> Iterator[CodeType]:
    """The outermost functions of a module and its classes."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_flags & 1:
                yield inner
            else:
                yield from _functions(inner)


def _find(code: CodeType, name: str) -> CodeType:
    return next(each for each in _functions(code) if each.co_qualname == name)


def _lines_of(code: CodeType) -> set[int]:
    lines = {line for _, _, line in code.co_lines() if line is not None}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            lines |= _lines_of(inner)
    return lines - {code.co_firstlineno}


def _chosen(mutant: Mutant, baseline: Baseline) -> list[str]:
    """The tests that may kill a mutant, the likely and quick ones first."""
    seconds = baseline.seconds
    reached = baseline.lines[mutant.module]
    if not mutant.function:
        return sorted(seconds, key=seconds.__getitem__)
    source = source_path(mutant.module).read_text(encoding="utf-8")
    code = compile(source, "", "exec", dont_inherit=True)
    tests = {
        test for line in _lines_of(_find(code, mutant.function)) for test in reached.get(line, ())
    }
    near = set(reached.get(mutant.line, ()))
    return sorted(tests, key=lambda test: (test not in near, seconds[test]))


def _compiled(mutant: Mutant) -> CodeType:
    path = str(source_path(mutant.module))
    with warnings.catch_warnings(action="ignore", category=SyntaxWarning):  # `is` with a number
        return compile(mutant.source, path, "exec", dont_inherit=True)


def _patch(module: ModuleType, mutant: Mutant) -> None:
    """Put the mutated code into the function that has been imported."""
    code = _compiled(mutant)
    found: Any = module
    for name in mutant.function.split("."):
        found = vars(found)[name]
    if isinstance(found, property):
        found = found.fget
    if isinstance(found, classmethod | staticmethod):
        found = found.__func__
    assert isinstance(found, FunctionType)
    found.__code__ = _find(code, mutant.function)


class _Mutated(importlib.abc.Loader, importlib.abc.MetaPathFinder):
    """Imports the mutated source in the place of the original."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = f"mqtt_sessions.{mutant.module}"
        self.mutant = mutant

    def find_spec(self, fullname: str, path: object, target: object = None) -> Any:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(
            fullname, source_path(self.mutant.module), loader=self
        )

    def exec_module(self, module: ModuleType) -> None:
        exec(_compiled(self.mutant), vars(module))


class _Killing(_Plugin):
    """Ends the process at the first failure, having said which test began last."""

    def __init__(self, baseline: Baseline, order: Sequence[str], writer: int | None = None) -> None:
        self.baseline = baseline
        self.places = {test: place for place, test in enumerate(order)}
        self.writer = writer

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # a mutant may change what tests there are: those that are new go first
        known = self.baseline.seconds
        items[:] = [
            each for each in items if each.nodeid in self.places or each.nodeid not in known
        ]
        items.sort(key=lambda item: self.places.get(item.nodeid, -1))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self.writer is not None:
            os.write(self.writer, f"{self.places.get(nodeid, -1)}\n".encode())
            _watch(self.baseline.seconds.get(nodeid, 5))

    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        if self.writer is not None and _failed(call):
            os._exit(_KILLED)


# ---------------------------------------------------------------- all of them


class _Pool:
    """Children at work, so many at a time."""

    def __init__(self, jobs: int, told: Callable[[Result], None]) -> None:
        self.jobs = jobs
        self.told = told
        self.running: dict[int, tuple[Mutant, Sequence[str], int]] = {}

    def start(self, mutant: Mutant, order: Sequence[str], work: Callable[[int], None]) -> None:
        while len(self.running) >= self.jobs:
            self._wait()
        child, reader = _in_child(work)
        self.running[child] = mutant, order, reader

    def finish(self) -> None:
        while self.running:
            self._wait()

    def _wait(self) -> None:
        child, status, usage = os.wait4(-1, 0)
        mutant, order, reader = self.running.pop(child)
        begun = _harvest(reader).split()
        place = int(begun[-1]) if begun else -1
        by = "what it changed" if place < 0 else order[place]
        outcome = _OUTCOMES.get(os.waitstatus_to_exitcode(status))
        if outcome is None:
            raise RuntimeError(f"a child ended with {status} in {by}: {mutant}")
        self.told(Result(mutant, outcome, by, usage.ru_utime + usage.ru_stime))


class _Patching(_Killing):
    """In the place of running the collected tests: forks a child for each mutant."""

    def __init__(self, mutants: Sequence[Mutant], baseline: Baseline, pool: _Pool) -> None:
        super().__init__(baseline, sorted(baseline.seconds))
        self.mutants = mutants
        self.pool = pool

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        for mutant in self.mutants:
            order = _chosen(mutant, self.baseline)
            chosen = [items[test] for test in order]

            def work(
                writer: int,
                mutant: Mutant = mutant,
                chosen: list[pytest.Item] = chosen,
                order: list[str] = order,
            ) -> None:
                self.writer = writer
                self.places = {test: place for place, test in enumerate(order)}
                _patch(sys.modules[f"mqtt_sessions.{mutant.module}"], mutant)
                for item, following in zip_longest(chosen, chosen[1:]):
                    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

            self.pool.start(mutant, order, work)
        self.pool.finish()
        return True


def _import_anew(mutant: Mutant, baseline: Baseline, order: Sequence[str], writer: int) -> NoReturn:
    sys.meta_path.insert(0, _Mutated(mutant))
    _watch(20)
    files = sorted({test.partition("::")[0] for test in order})
    plugin = _Killing(baseline, order, writer)
    status = pytest.main([*_ARGUMENTS, *files], plugins=[plugin])
    # what cannot be imported interrupts the collection
    os._exit(_KILLED if status is pytest.ExitCode.INTERRUPTED else int(status))


def run(
    mutants: Sequence[Mutant],
    tests: Sequence[str],
    baseline: Baseline,
    jobs: int,
    told: Callable[[Result], None],
) -> None:
    """Try all mutants.

    Args:
        mutants: Which.
        tests: Files and directories of tests.
        baseline: What `measure` said of these tests.
        jobs: Children at a time.
        told: Called with each result as it comes.
    """
    assert "mqtt_sessions" not in sys.modules, "children could not import it anew"
    patched = [mutant for mutant in mutants if mutant.function]
    if patched:
        _patch_in_server(patched, tests, baseline, jobs, told)
    pool = _Pool(jobs, told)
    for mutant in mutants:
        if not mutant.function:
            order = _chosen(mutant, baseline)
            pool.start(mutant, order, partial(_import_anew, mutant, baseline, order))
    pool.finish()


def _patch_in_server(
    mutants: Sequence[Mutant],
    tests: Sequence[str],
    baseline: Baseline,
    jobs: int,
    told: Callable[[Result], None],
) -> None:
    """Collect the tests in a child, so that this process stays without the package."""

    def work(writer: int) -> None:
        with open(writer, "w", encoding="utf-8", buffering=1) as pipe:
            numbers = {mutant.key: number for number, mutant in enumerate(mutants)}

            def tell(result: Result) -> None:
                row = [numbers[result.mutant.key], *result[1:]]
                pipe.write(json.dumps(row) + "\n")

            plugin = _Patching(mutants, baseline, _Pool(jobs, tell))
            if pytest.main([*_ARGUMENTS, *tests], plugins=[plugin]) > pytest.ExitCode.INTERRUPTED:
                raise RuntimeError("the tests could not be run")

    with tempfile.NamedTemporaryFile() as output:
        child, reader = _in_child(work, output.name)
        with open(reader, encoding="utf-8") as pipe:
            for line in pipe:
                number, outcome, by, seconds = json.loads(line)
                told(Result(mutants[number], outcome, by, seconds))
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(output.read().decode(errors="replace"))
