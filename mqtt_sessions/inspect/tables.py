"""Tables for a terminal, with rich.

Whatever a client has chosen is a `Text`, in which rich looks for no markup.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mqtt_sessions.deadlines import DeadlineKind
from mqtt_sessions.inspect.client import ClientReport, MessageOnItsWay
from mqtt_sessions.inspect.summary import Runs, SessionSummary, State, Summary
from mqtt_sessions.inspect.words import due, printable, relative, span
from mqtt_sessions.journals import Quarantined
from mqtt_sessions.subscriptions import Subscription

__all__ = ["of_client", "of_journal", "show"]

PAGE_WIDTH = 160
"""Columns, where the output is no terminal."""

_VERSIONS = {3: "3.1", 4: "3.1.1", 5: "5.0"}

_DEADLINES = {
    DeadlineKind.SESSION_EXPIRY: "session expires",
    DeadlineKind.WILL_DELAY: "will due",
    DeadlineKind.MESSAGE_EXPIRY: "message expires",
    DeadlineKind.INBOUND_QOS2: "incoming identifier ends",
}

_STATES: dict[State, str] = {
    "connected": "connected when the file was last written",
    "cut": "connected in an earlier run, and cut",
    "parked": "parked",
}

Item = TypeVar("Item")


def show(tables: Iterator[RenderableType]) -> None:
    """Print, one below the other.

    Raises:
        BrokenPipeError: Nobody reads any more; rich itself would end the process.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PAGE_WIDTH)
    for table in tables:
        with console.capture() as capture:
            console.print(table)
        sys.stdout.write(capture.get())


def of_journal(
    file: str, summary: Summary, quarantine: Sequence[tuple[Quarantined, bool]], limit: int
) -> Iterator[RenderableType]:
    """A whole journal.

    Args:
        file: Its name.
        summary: What it holds.
        quarantine: Damaged rows, and whether they were found just now.
        limit: How many rows a table has at the most.
    """
    yield Text(f"{file}: {_runs(summary.runs, summary.now)}")
    if summary.sessions:
        yield _sessions(summary)
    yield _totals(summary)
    set_aside = [(each, "now, by its sense") for each in summary.set_aside]
    set_aside += [(each, "now" if found_now else "earlier") for each, found_now in quarantine]
    if set_aside:
        yield _table(
            "damaged rows",
            ("table", "row", "reason", "found"),
            set_aside,
            lambda each: (each[0].table, each[0].row, each[0].reason, each[1]),
            limit,
        )


def _runs(runs: Runs, now: float) -> str:
    if runs.last == 0:
        return "no run has written to it"
    if runs.started_at is None:
        return f"run {runs.last} was the last one"
    return (
        f"run {runs.last} began {relative(runs.started_at, now)}, "
        f"and is known to have run {relative(runs.alive_at, now)}"
    )


def _sessions(summary: Summary) -> Table:
    more = summary.totals.sessions - len(summary.sessions)
    notes = [f"{more} more sessions"] if more else []
    shown = {session.state for session in summary.sessions}
    if "connected" in shown:
        notes.append("connected: when the file was last written")
    if "cut" in shown:
        notes.append("cut: connected in an earlier run")
    table = Table(title="sessions", title_justify="left", caption="; ".join(notes) or None)
    table.add_column("client id", overflow="ellipsis", max_width=40, no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("subscriptions", "queue", "in flight", "inbound", "bytes"):
        table.add_column(name, justify="right")
    table.add_column("will")
    table.add_column("expires")
    for session in summary.sessions:
        table.add_row(*map(_cell, _session(session, summary.now)))
    return table


def _session(session: SessionSummary, now: float) -> tuple[str, ...]:
    exchanges = session.in_flight + session.releasing + session.abandoned
    return (
        session.client_id,
        session.state,
        str(session.subscriptions),
        str(session.queued),
        str(exchanges),
        str(session.inbound),
        f"{session.message_bytes:,}",
        "" if session.will_due is None else due(session.will_due, now),
        due(session.expires, now),
    )


def _totals(summary: Summary) -> Table:
    totals = summary.totals
    table = Table(title="totals", title_justify="left", show_header=False)
    for name, told in (
        (
            "sessions",
            f"{totals.sessions}: {totals.connected} connected, {totals.cut} cut, "
            f"{totals.parked} parked; {totals.expired} expired",
        ),
        ("subscriptions", str(totals.subscriptions)),
        ("queued", f"{totals.queued}; {totals.expired_messages} expired"),
        (
            "in flight (QoS 2)",
            f"{totals.in_flight} wait for PUBREC, {totals.releasing} for PUBCOMP, "
            f"{totals.abandoned} abandoned",
        ),
        ("inbound identifiers", str(totals.inbound)),
        (
            "messages",
            f"{totals.messages} with {totals.message_bytes:,} B; "
            f"{totals.shared_messages} stored once for several copies",
        ),
        ("retained", f"{totals.retained} with {totals.retained_bytes:,} B"),
        ("wills", f"{totals.wills} with {totals.will_bytes:,} B"),
        ("replays", str(totals.replays)),
    ):
        table.add_row(name, told)
    return table


# ---------------------------------------------------------------- one client


def of_client(file: str, report: ClientReport, limit: int) -> Iterator[RenderableType]:
    """One client; as `of_journal`."""
    now, session = report.now, report.session
    yield Text(f"{file}: {_runs(report.runs, now)}")
    yield Text(f"client {printable(report.client_id)}")
    if session is None:
        yield Text("no session: it ended with its connection, and its will is left")
    else:
        yield _figures(session, now)
    if report.will is not None:
        will = report.will
        yield Text(
            f"will on {printable(will.topic_name)}: {will.size:,} B, QoS {will.qos}"
            f"{', retained' if will.retain else ''}, delay {span(will.will_delay_interval)}, "
            f"due {due(will.due, now)}"
        )
    if report.replays:
        filters = ", ".join(map(printable, report.replays))
        yield Text(f"retained messages still to be sent for {filters}")
    if report.deadlines:
        yield _table(
            "deadlines",
            ("what", "when", "which"),
            report.deadlines,
            lambda each: (_DEADLINES[each.kind], due(each.due, now), each.subject),
            limit,
        )
    yield from _lists(report, limit)


def _figures(session: SessionSummary, now: float) -> Table:
    table = Table(title="session", title_justify="left", show_header=False)
    for name, told in (
        ("state", _STATES[session.state]),
        ("protocol", _VERSIONS[session.protocol_version]),
        ("principal", "none" if session.principal is None else session.principal),
        ("expires", due(session.expires, now)),
        (
            "interval",
            "it never ends" if session.expiry_interval is None else span(session.expiry_interval),
        ),
        ("run", str(session.epoch)),
        ("subscriptions", str(session.subscriptions)),
        ("queue", str(session.queued)),
        (
            "in flight (QoS 2)",
            f"{session.in_flight} wait for PUBREC, {session.releasing} for PUBCOMP, "
            f"{session.abandoned} abandoned",
        ),
        ("inbound identifiers", str(session.inbound)),
        ("bytes", f"{session.message_bytes:,}"),
    ):
        table.add_row(name, _cell(told))
    return table


def _lists(report: ClientReport, limit: int) -> Iterator[Table]:
    now = report.now
    if report.subscriptions:
        yield _table(
            "subscriptions",
            ("topic filter", "QoS", "options", "identifier"),
            report.subscriptions,
            _subscription,
            limit,
        )
    if report.queue:
        yield _table("queue", _MESSAGE_NAMES, report.queue, lambda each: _message(each, now), limit)
    if report.exchanges:
        yield _table(
            "outgoing QoS 2 exchanges",
            ("packet id", "phase", *_MESSAGE_NAMES),
            report.exchanges,
            lambda each: (str(each.packet_id), each.phase, *_message(each.message, now)),
            limit,
        )
    if report.inbound:
        yield _table(
            "incoming QoS 2 identifiers",
            ("packet id", "ends"),
            report.inbound,
            lambda each: (
                str(each.packet_id),
                "at PUBREL" if each.ends_at is None else relative(each.ends_at, now),
            ),
            limit,
        )


_MESSAGE_NAMES = ("topic", "bytes", "QoS", "publisher", "arrived", "expires")


def _message(message: MessageOnItsWay | None, now: float) -> tuple[str, ...]:
    if message is None:
        return ("",) * len(_MESSAGE_NAMES)
    return (
        message.topic_name,
        f"{message.size:,}",
        str(message.qos),
        "(the host)" if message.publisher is None else message.publisher,
        "" if message.received_at is None else relative(message.received_at, now),
        relative(message.expires_at, now),
    )


def _subscription(subscription: Subscription) -> tuple[str, ...]:
    options = [f"retain handling {subscription.retain_handling}"]
    if subscription.no_local:
        options.append("no local")
    if subscription.retain_as_published:
        options.append("retain as published")
    identifier = subscription.subscription_id
    return (
        subscription.topic_filter,
        str(subscription.qos),
        ", ".join(options),
        "" if identifier is None else str(identifier),
    )


# ---------------------------------------------------------------- all of them


def _cell(text: str) -> Text:
    return Text(printable(text))


def _table(
    title: str,
    names: tuple[str, ...],
    items: Sequence[Item],
    cells_of: Callable[[Item], tuple[str, ...]],
    limit: int,
) -> Table:
    """A list, and below it how many of its items are not shown."""
    more = len(items) - limit
    table = Table(
        title=title,
        title_justify="left",
        caption=f"{more} more" if more > 0 else None,
        min_width=len(title),
    )
    for name in names:
        table.add_column(name, overflow="fold")
    for item in items[:limit]:
        table.add_row(*map(_cell, cells_of(item)))
    return table
