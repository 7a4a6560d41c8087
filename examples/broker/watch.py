"""`--watch`: a live table of sessions, with rich."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from rich.console import Console
from rich.live import Live
from rich.table import Table

from mqtt_sessions import DropReason, Session, SessionStore

__all__ = ["show", "table_of"]

REFRESH_INTERVAL = 0.5
"""Seconds."""

MAXIMUM_ROWS = 100

_VERSIONS = {3: "3.1", 4: "3.1.1", 5: "5.0"}


async def show(store: SessionStore, console: Console | None = None) -> None:
    """Show the table until it is canceled."""
    console = console or Console()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            # Borders, headings and caption leave this many lines of the screen to sessions.
            rows = max(1, min(MAXIMUM_ROWS, console.height - 8))
            live.update(table_of(store, time.time(), rows), refresh=True)
            await asyncio.sleep(REFRESH_INTERVAL)


def table_of(store: SessionStore, now: float, rows: int = MAXIMUM_ROWS) -> Table:
    """The table as it stands at an instant. *Cost* O(rows)."""
    table = Table(
        title=f"{store.connected_count} connected, {store.parked_count} parked",
        caption=_totals(store, rows),
    )
    table.add_column("client id", overflow="ellipsis", max_width=40)
    table.add_column("state")
    table.add_column("queue", justify="right")
    table.add_column("in flight", justify="right")
    table.add_column("expires in", justify="right")
    table.add_column("drops by reason")
    for client_id in store.page(limit=rows):
        table.add_row(*_row(store[client_id], now))
    return table


def _row(session: Session, now: float) -> tuple[str, ...]:
    version = session.protocol_version
    return (
        _printable(session.client_id),
        "parked" if version is None else f"connected ({_VERSIONS[version]})",
        str(session.queue_depth),
        str(len(session.in_flight)),
        _expires_in(session, now),
        _drops(session.counters.dropped),
    )


def _printable(text: str) -> str:
    """A client's own words, which might drive the terminal or look like rich's markup."""
    plain = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return plain.replace("[", "\\[")


def _expires_in(session: Session, now: float) -> str:
    if session.connected:
        interval = session.session_expiry_interval
        if interval == 0:
            return "with its connection"
        return "never" if interval is None else f"{interval:.0f} s after it"
    at = session.expires_at
    return "never" if at is None else f"{max(0.0, at - now):.0f} s"


def _drops(dropped: Mapping[DropReason, int]) -> str:
    return ", ".join(f"{reason.value} {count}" for reason, count in dropped.items() if count)


def _totals(store: SessionStore, rows: int) -> str:
    counters = store.counters
    parts = [
        f"accepted {counters.accepted}",
        f"completed {counters.completed}",
        f"dropped {_drops(counters.dropped) or 0}",
        f"retained {store.retained_count}",
    ]
    if len(store) > rows:
        parts.insert(0, f"{len(store) - rows} more sessions")
    return "; ".join(parts)
