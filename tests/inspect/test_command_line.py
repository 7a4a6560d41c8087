"""`python -m mqtt_sessions.inspect`: what it prints, refuses, and leaves alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqtt_sessions.inspect.__main__ import main
from mqtt_sessions.journals import SQLiteJournal
from tests.inspect.helpers import NOW, ROWS, alter, session, written

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "mqtt_sessions.inspect"]
FAILS_AFTER = 60  # seconds; a slow machine is no fault of the command


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "sessions.db")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=FAILS_AFTER,
        check=False,
    )


def refused(path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What it says on stderr, where it prints nothing and writes nothing."""
    before = {each: each.read_bytes() for each in path.parent.iterdir() if each.is_file()}
    assert main([str(path), *arguments], NOW) == 2
    assert {each: each.read_bytes() for each in path.parent.iterdir() if each.is_file()} == before
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("inspect: ")
    assert err.count("\n") == 1
    return err


# ---------------------------------------------------------------- what it prints


def test_as_a_command(path: Path) -> None:
    ended = run(str(path))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"{path}: run 2 began ")
    assert "alice" in ended.stdout


def test_tables_of_a_journal_and_of_a_client(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(path)], NOW) == 0
    shown = capsys.readouterr().out
    assert "in 57 min" in shown
    assert main([str(path), "--client", "alice"], NOW) == 0
    shown = capsys.readouterr().out
    assert "lost/alice" in shown
    assert "bob" not in shown


def test_json_of_a_journal_and_of_a_client(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path), "--json"], NOW) == 0
    given = json.loads(capsys.readouterr().out)
    assert (given["file"], given["now"], given["totals"]["sessions"]) == (str(path), NOW, 5)
    assert main([str(path), "--json", "--client", "alice"], NOW) == 0
    assert json.loads(capsys.readouterr().out)["session"]["queued"] == 3


def test_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [session(number, f"client-{number:03}") for number in range(1, 61)]
    path = str(written(tmp_path / "sessions.db", rows))
    shown = []
    for arguments in ([], ["--limit", "7"], ["--limit", "0"], ["--json"], ["--json", "--limit=7"]):
        assert main([path, *arguments], NOW) == 0
        shown.append(capsys.readouterr().out.count("client-"))
    assert shown == [50, 7, 0, 60, 7]


@pytest.mark.parametrize("limit", ["-1", "x", "1.5", "9" * 5000])
def test_a_limit_that_is_none(path: Path, capsys: pytest.CaptureFixture[str], limit: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(path), f"--limit={limit}"])
    assert ended.value.code == 2
    assert "must be a number, 0 or more" in capsys.readouterr().err


def test_an_empty_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "sessions.db", [])
    assert main([str(path)], NOW) == 0
    assert f"{path}: no run has written to it" in capsys.readouterr().out
    assert main([str(path), "--json"], NOW) == 0
    assert json.loads(capsys.readouterr().out)["sessions"] == []


def test_without_a_given_instant_it_is_now(path: Path) -> None:
    given = json.loads(run(str(path), "--json").stdout)
    assert given["now"] > 1_700_000_000


def test_a_terminal_that_cannot_show_it_all(tmp_path: Path) -> None:
    path = written(tmp_path / "sessions.db", [session(1, "ü𝄞")])
    ended = run(str(path), PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\\xfc\\U0001d11e" in ended.stdout


@pytest.mark.parametrize("arguments", ["", " --json"])
def test_a_reader_that_has_seen_enough(tmp_path: Path, arguments: str) -> None:
    rows = [session(number, f"client-{number:05}") for number in range(1, 3001)]
    path = written(tmp_path / "sessions.db", rows)
    with subprocess.Popen(
        [*COMMAND, str(path), "--limit=3000", *arguments.split()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(FAILS_AFTER) == 0


# ---------------------------------------------------------------- damaged rows


def test_damaged_rows_of_now_and_of_before(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alter(path, "UPDATE subscription SET options = 3 WHERE session_id = 2")
    journal = SQLiteJournal(path)
    list(journal.load())
    journal.close()
    alter(path, "UPDATE delivery SET body = x'' WHERE delivery_id = 22")
    before = path.read_bytes()
    assert main([str(path), "--json"], NOW) == 0
    given = json.loads(capsys.readouterr().out)
    assert given["quarantine"] == [
        {"table": "subscription", "row": "2, 'news'", "reason": "options is 3", "found_now": False},
        {
            "table": "delivery",
            "row": "22",
            "reason": given["quarantine"][1]["reason"],
            "found_now": True,
        },
    ]
    assert (given["totals"]["subscriptions"], given["totals"]["queued"]) == (2, 3)
    assert main([str(path)], NOW) == 0
    assert "options is 3" in capsys.readouterr().out
    assert path.read_bytes() == before


# ---------------------------------------------------------------- what it refuses


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A broker that runs, in another process."""
    code = (
        "import sys; from mqtt_sessions.journals import SQLiteJournal\n"
        "journal = SQLiteJournal(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_a_file_that_a_broker_holds(
    path: Path, holder: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{path}: it is held by another process" in refused(path, capsys)
    assert f"{path}: it is held by another process" in refused(path, capsys, "--json")
    holder.kill()
    holder.wait()
    assert main([str(path), "--json"], NOW) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["sessions"] == 5


def test_a_broker_that_was_killed_leaves_a_log_that_is_read_and_left(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = SQLiteJournal(path)
    assert list(journal.load())
    journal.commit([session(77, "late")])
    left = tmp_path / "left"
    left.mkdir()
    for each in tmp_path.glob("sessions.db*"):
        shutil.copy(each, left)
    journal.close()
    before = {each.name: each.read_bytes() for each in left.iterdir()}
    assert "sessions.db-wal" in before
    assert main([str(left / path.name), "--json"], NOW) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["sessions"] == 6
    assert {each.name: each.read_bytes() for each in left.iterdir()} == before


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no such file" in refused(tmp_path / "gone.db", capsys)
    assert main([str(tmp_path / "gone" / "x.db")]) == 2
    assert "there is no directory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_file_can_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "File name too long" in refused(tmp_path / ("x" * 5000), capsys)


def test_what_is_no_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sessions.db"
    path.write_bytes(b"no database, but as long as the head of one would be" * 200)
    assert "it is no session journal" in refused(path, capsys)
    path.write_bytes(b"")
    assert "is empty" in refused(path, capsys)
    path.unlink()
    path.mkdir()
    assert "is a directory" in refused(path, capsys)


def test_pages_that_are_damaged(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)
    assert "damaged" in refused(path, capsys)


def test_a_client_that_is_not_there(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(path, capsys, "--client", "nobody\x1b[2J")
    assert said.endswith("has nothing of a client 'nobody\\x1b[2J'\n")


@pytest.mark.parametrize("blocked", ["rich", "rich.table"])
def test_without_rich_it_says_what_to_do(path: Path, blocked: str) -> None:
    program = (
        f"import sys; sys.modules[{blocked!r}] = None\n"
        "from mqtt_sessions.inspect.__main__ import main\n"
        f"sys.exit(main(sys.argv[1:], {NOW}))"
    )

    def ended(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, str(path), *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=FAILS_AFTER,
            check=False,
        )

    tables = ended()
    assert (tables.returncode, tables.stdout) == (2, "")
    assert tables.stderr == (
        "inspect: tables need rich: pip install 'mqtt-sessions[inspect]'; --json does without\n"
    )
    for arguments in (["--json"], ["--json", "--client", "alice"]):
        assert ended(*arguments).returncode == 0


def test_the_rows_of_these_tests_are_those_that_a_journal_gives_back(path: Path) -> None:
    journal = SQLiteJournal(path, read_only=True)
    assert set(journal.load()) == set(ROWS)
    journal.close()
