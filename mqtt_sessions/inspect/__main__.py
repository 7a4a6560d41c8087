"""What a broker's journal holds, while the broker does not run.

Nothing is written, and payloads are never shown.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from io import TextIOWrapper

from mqtt_sessions._values import value
from mqtt_sessions.inspect import documents
from mqtt_sessions.inspect.client import ClientReport, look_up
from mqtt_sessions.inspect.summary import Summary, summarize
from mqtt_sessions.inspect.words import printable
from mqtt_sessions.journals import JournalUnusable, Quarantined, SQLiteJournal

__all__ = ["main"]

CANNOT = 2

SHOWN = 50
"""Rows of a table, unless another number is asked for."""


@value
class _Found:
    """What is to be printed; damaged rows with whether they were found just now."""

    content: Summary | ClientReport
    quarantine: list[tuple[Quarantined, bool]]


class _Cannot(Exception):
    """What is in the way, for whoever has given the command."""


def main(arguments: Sequence[str] | None = None, now: float | None = None) -> int:
    """Print, and return the exit code.

    Args:
        arguments: Of the command line; None: this process's.
        now: On the scale of the broker's clock; None: the time of day.
    """
    given = _parser().parse_args(arguments)
    try:
        if not given.json:
            _require_rich()
        found = _read(given, time.time() if now is None else now)
    except _Cannot as problem:
        print(f"inspect: {problem}", file=sys.stderr)
        return CANNOT
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for terminals that cannot show it all
    try:
        (_print_json if given.json else _print_tables)(given, found)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m mqtt_sessions.inspect", description=__doc__)
    parser.add_argument("file", metavar="FILE", help="of a SQLiteJournal")
    parser.add_argument("--client", metavar="ID", help="show all that there is of this client")
    parser.add_argument(
        "--limit",
        type=_limit,
        metavar="N",
        help=f"show so many sessions, or of each thing of a client [{SHOWN}; all with --json]",
    )
    parser.add_argument("--json", action="store_true", help="for programs; needs no rich")
    return parser


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a number, 0 or more, not {text!r}")


def _require_rich() -> None:
    try:
        from mqtt_sessions.inspect import tables  # noqa: F401, PLC0415
    except ImportError as error:
        raise _Cannot(
            "tables need rich: pip install 'mqtt-sessions[inspect]'; --json does without"
        ) from error


def _read(given: argparse.Namespace, now: float) -> _Found:
    """All of the file, for only at its end is it certain that nobody else had it open."""
    content: Summary | ClientReport | None
    try:
        with closing(SQLiteJournal(given.file, read_only=True)) as journal:
            quarantine = [(row, False) for row in journal.quarantine()]
            if given.client is None:
                limit = SHOWN if given.limit is None and not given.json else given.limit
                content = summarize(journal.load(), now, limit)
            else:
                content = look_up(journal.load(), given.client, now)
            quarantine += [(row, True) for row in journal.quarantined]
    except JournalUnusable as error:
        raise _Cannot(str(error)) from error
    except OSError as error:
        raise _Cannot(f"{given.file}: {error.strerror}") from error
    if content is None:
        raise _Cannot(f"{given.file} has nothing of a client '{printable(given.client)}'")
    return _Found(content, quarantine)


def _print_json(given: argparse.Namespace, found: _Found) -> None:
    content = found.content
    if isinstance(content, Summary):
        pieces = documents.of_journal(given.file, content, found.quarantine)
    else:
        pieces = documents.of_client(given.file, content, given.limit)
    sys.stdout.writelines(pieces)
    print()


def _print_tables(given: argparse.Namespace, found: _Found) -> None:
    from mqtt_sessions.inspect import tables  # noqa: PLC0415

    content, file = found.content, printable(given.file, longest=1000)
    limit = SHOWN if given.limit is None else given.limit
    if isinstance(content, Summary):
        tables.show(tables.of_journal(file, content, found.quarantine, limit))
    else:
        tables.show(tables.of_client(file, content, limit))


if __name__ == "__main__":
    sys.exit(main())
