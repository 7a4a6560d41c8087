"""`python -m examples.broker`: the command line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

from examples.broker.broker import Broker
from examples.broker.configuration import Configuration, ConfigurationError, load
from mqtt_sessions import SessionStore
from mqtt_sessions.journals import Journal, JournalUnusable, SQLiteJournal

FAILED, CANNOT_START = 1, 2

Show = Callable[[SessionStore], Coroutine[None, None, None]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the broker until it is told to stop; the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING)
    try:
        configuration = load(options.config) if options.config else Configuration()
    except ConfigurationError as error:
        return _cannot_start(str(error))
    show: Show | None = None
    if options.watch:
        try:
            from examples.broker import watch  # noqa: PLC0415
        except ImportError:
            return _cannot_start("--watch needs rich: pip install 'mqtt-sessions[examples]'")
        show = watch.show
    journal: Journal | None = None
    try:
        if not options.memory:
            journal = SQLiteJournal(options.database)
        return asyncio.run(_serve(configuration, journal, options.host, options.port, show))
    except JournalUnusable as error:
        return _cannot_start(str(error))
    finally:
        if journal is not None:
            journal.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m examples.broker",
        description="A small MQTT broker (3.1, 3.1.1 and 5.0 over TCP). It checks no passwords.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on [%(default)s]")
    parser.add_argument(
        "--port", type=_port, default=1883, help="TCP port [%(default)s]; 0 takes a free one"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE.toml",
        help="fields of ExpiryPolicy, SessionLimits and ServerOptions by their names, "
        "refuse_subscribe and refuse_publish",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--database",
        type=Path,
        default=Path("sessions.db"),
        metavar="FILE",
        help="where sessions are stored; it is made if there is none [%(default)s]",
    )
    where.add_argument("--memory", action="store_true", help="store them nowhere")
    parser.add_argument("--watch", action="store_true", help="show a live table of sessions")
    parser.add_argument("--verbose", action="store_true", help="log what happens to sessions")
    return parser


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be 0 to 65535, not {text!r}")


def _cannot_start(problem: str) -> int:
    print(f"broker: {problem}", file=sys.stderr)
    return CANNOT_START


async def _serve(
    configuration: Configuration, journal: Journal | None, host: str, port: int, show: Show | None
) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl+C ends it less gently
            loop.add_signal_handler(number, stop.set)
    broker = Broker(configuration, journal, stop.set)
    loop.set_exception_handler(broker.complaints.on_exception)
    try:
        addresses = await broker.start(host, port)
    except (OSError, UnicodeError) as error:  # the latter from names that can't be any host's
        broker.host.close()
        return _cannot_start(f"cannot listen on {_address(host, port)}: {_reason(error)}")
    print("listening on", ", ".join(_address(*address) for address in addresses), flush=True)
    watcher = None if show is None else asyncio.create_task(show(broker.store))
    await stop.wait()
    if watcher is not None:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
    await broker.stop()
    if broker.failure is not None:
        print(f"broker: {broker.failure}; mend that and start it again", file=sys.stderr)
        return FAILED
    return 0


def _reason(error: Exception) -> str:
    """In few words: asyncio puts the address before them, which the line has already."""
    number = error.errno if isinstance(error, OSError) else None
    return str(error) if number not in errno.errorcode else os.strerror(number or 0)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
