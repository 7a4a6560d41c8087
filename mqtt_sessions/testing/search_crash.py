"""What a crash leaves of an account, and what nobody may see before the journal has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mqtt_sessions.actions import (
    Action,
    SendConnack,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
)
from mqtt_sessions.changes import SubscriptionStored
from mqtt_sessions.messages import Message
from mqtt_sessions.testing.clients import Client, ServerFault
from mqtt_sessions.testing.search_account import Account
from mqtt_sessions.testing.search_rows import RowsOf, ended, is_reserved
from mqtt_sessions.testing.search_rules import Ledger
from mqtt_sessions.topics import matches

__all__ = ["account_after_crash", "check_remembered"]


def account_after_crash(stored: Ledger, seen: Ledger, now: float) -> Ledger:
    """The account of a store that came back.

    Args:
        stored: The account as of the last step that is durable.
        seen: The account as it was: what clients gave to their applications stays given.
        now: When the store came back, which is when all connections were cut.
    """
    ledger = stored.copy()
    for name, account in ledger.accounts.items():
        account.delivered = dict(seen.accounts[name].delivered)
        if account.connection is not None:
            _cut(account, now)
        # QoS 1 waits again, and goes under a new identifier with DUP 0
        again = [copy for copy in account.begun.values() if copy[1] == 1]
        account.waiting = again + account.waiting
        account.begun = {name: copy for name, copy in account.begun.items() if copy[1] == 2}
        account.again.clear()
        account.units.clear()
    return ledger


def _cut(account: Account, now: float) -> None:
    """NN-4.5: as any other lost connection, at the restart; a session of interval 0 is gone."""
    account.connection = None
    account.congested = False
    will = account.will
    if account.interval == 0:
        account.forget()
        if will is not None:  # it is still due
            account.exists, account.will = True, will
            account.will_at = account.expires_at = now
        return
    if account.interval is not None:
        account.expires_at = now + account.interval
    if will is not None:
        account.will_at = now + will[1]


def check_remembered(
    action: Action,
    client: Client,
    clients: Iterable[Client],
    rows: RowsOf,
    current_rows: RowsOf,
    stored: Ledger,
    current: Ledger,
    *,
    has_waited: bool,
) -> None:
    """Nothing is visible that a restore would not remember.

    Args:
        action: What a client is about to see.
        client: Whose.
        clients: All of them.
        rows: The rows as a crash would leave them now.
        current_rows: The rows as they are to become.
        stored: The account as a crash would leave it now.
        current: The account of the store as it is.
        has_waited: It was withheld until a batch was durable.

    Raises:
        ServerFault: A crash would take back what the action promises.
    """
    name = client.client_id
    saved, account = stored.accounts[name], current.accounts[name]
    kept = account.interval != 0
    packet_id = getattr(action, "packet_id", None)
    match action:
        case SendConnack():
            nothing = not kept and account.will is None and not (saved.exists and saved.interval)
            known = saved.visits == account.visits or nothing
        case SendPuback() | SendPubrec():
            held = packet_id in saved.inbound or isinstance(action, SendPuback) or not kept
            message = client.in_flight.get(action.packet_id)
            known = held and (
                message is None
                or message in stored.handed
                or not (_has_copies(message, current) or _comes_back(message, rows, current_rows))
            )
        case SendPubcomp():
            known = packet_id not in saved.inbound
        case SendPubrel():
            known = packet_id in saved.released or not kept
        case SendPublish(delivery=delivery):
            message = delivery.message
            begun = saved.begun.get(action.packet_id or 0)
            known = not kept or delivery.qos < 2 or (begun is not None and begun[0] is message)
            if message.qos == 2 and any(_may_come_again(message, each) for each in clients):
                known = known and message in stored.handed
            if action.packet_id is not None and not action.dup:
                known = known and is_reserved(rows, name, action.packet_id)
            # whose connections leave the same will, one after the other, has waited for the first
            known = known and (has_waited or not _is_will_kept(message, stored, current))
        case _:
            known = True
    if not known:
        what = f"{type(action).__name__} {packet_id or ''}".rstrip()
        raise ServerFault("host", f"{name!r} sees {what}, which a crash would take back")


def _has_copies(message: Message, current: Ledger) -> bool:
    """Somebody has not got it yet."""
    copies: list[Any] = []
    for account in current.accounts.values():
        copies += [*account.waiting, *account.begun.values(), *account.released.values()]
    return any(copy[0] is message for copy in copies)


def _comes_back(message: Message, rows: RowsOf, current_rows: RowsOf) -> bool:
    """A crash would bring a session back that has ended, and without the message."""
    gone = ended(rows, current_rows)
    return any(
        isinstance(each, SubscriptionStored)
        and each.session_id in gone
        and matches(each.subscription.topic_filter, message.topic_name)
        for each in rows.values()
    )


def _may_come_again(message: Message, publisher: Client) -> bool:
    return any(each is message for each in publisher.in_flight.values())


def _is_will_kept(message: Message, stored: Ledger, current: Ledger) -> bool:
    """The message is a will that was published, and that a crash would publish again."""
    for name, saved in stored.accounts.items():
        if saved.will is not None and saved.will[0] is message:
            account = current.accounts[name]
            if account.visits != saved.visits or account.will is None:
                return True
    return False
