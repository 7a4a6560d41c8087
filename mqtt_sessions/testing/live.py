"""A live broker behind a socket, that speaks the language of a `SessionStore`.

`BrokerSubject` sends the packet that an event tells of, waits until the broker has nothing more to
say, and returns what it said as actions. So whatever judges a store judges Mosquitto too:

    with BrokerSubject("127.0.0.1", 1883) as subject:
        subject.handle(ClientConnected(1, "alice"), 0.0).actions
        # (SendConnack(connection=1, session_present=False, reason_code=SUCCESS, …),)

When is a broker quiet? Each open connection sends PINGREQ, and PINGRESP comes behind all that the
broker had for that connection. A broker may handle one socket after another, so this is repeated
until two rounds in a row brought nothing. A broker that hands messages from one task to another
may be late even so: give those `quiet`, seconds of silence that have to pass as well.

A live broker has a clock of its own: `now` is ignored, `next_deadline_at` is None, and what comes
without any packet (a will that was delayed, a connection that is closed) is found by `wait`.
"""

from __future__ import annotations

import math
import secrets
import selectors
import socket
import time
from collections.abc import Callable, Hashable
from typing import Any, Self

from mqtt_sessions.actions import (
    Action,
    CloseConnection,
    SendConnack,
    SendDisconnect,
    SendPingresp,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SendUnsuback,
)
from mqtt_sessions.errors import InvalidState, InvalidValue
from mqtt_sessions.events import (
    ClientConnected,
    ConnectionLost,
    DisconnectReceived,
    Event,
    PingReceived,
    PublishReceived,
)
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.testing.live_bytes import PINGREQ, bytes_of
from mqtt_sessions.testing.live_link import BrokerFault, Budget, Link, State
from mqtt_sessions.topics import is_valid_topic
from mqtt_sessions.turn import Outcome
from mqtt_sessions.wire import (
    Connack,
    Disconnect,
    Packet,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Unsuback,
)

__all__ = ["BrokerFault", "BrokerSubject"]

_QUIET_ROUNDS = 2
_PATIENCE = 10


class BrokerSubject:
    """A broker at an address, driven by events like a `SessionStore`.

    It has a connection of its own there (with a random client id, 5.0 or else 3.1.1), so that the
    end of the last client's connection can be waited for as well.

    Args:
        host: Where the broker listens.
        port: Where the broker listens.
        quiet: Seconds of silence that must pass, beside the answered pings, until the broker counts
            as quiet: 0 for brokers of one thread, such as Mosquitto.
        timeout: Seconds after which an answer that has to come counts as missing. After ten times
            `timeout` and `quiet`, 100,000 packets or 512 MiB in one step, the broker counts as
            never quiet, which is a `BrokerFault`.

    Attributes:
        real_time: True: time passes by itself, and `now` is ignored.

    Raises:
        ConnectionError: Nobody listens there.
        BrokerFault: Whoever listens there accepts no client.
        InvalidValue: `timeout` is not above 0, or `quiet` is below.

    *Bound* two packets for each open connection and step, besides those of the event.
    """

    real_time = True
    next_deadline_at = None

    def __init__(self, host: str, port: int, *, quiet: float = 0.0, timeout: float = 5.0) -> None:
        if not (timeout > 0 and math.isfinite(timeout)):
            raise InvalidValue(f"timeout must be a number of seconds above 0, not {timeout!r}")
        if not (quiet >= 0 and math.isfinite(quiet)):
            raise InvalidValue(f"quiet must be a number of seconds, 0 or more, not {quiet!r}")
        self._address = (host, port)
        self._is_done = False
        self._quiet = quiet
        self._timeout = timeout
        self._selector = selectors.DefaultSelector()
        self._links: dict[Hashable, Link] = {}
        self._actions: list[Action] = []
        self._client_ids: dict[str, None] = {}
        self._retained: dict[str, None] = {}
        self._begin()
        try:
            self._own = self._connect_own()
        except BaseException:
            self._selector.close()
            raise

    # ------------------------------------------------------------ the door of a subject

    def handle(self, event: Event, now: float = 0.0) -> Outcome:
        """Do what the event says, wait until the broker is quiet, return what it sent.

        Args:
            event: What a client does. `ConnectionLost` ends the connection without DISCONNECT.
            now: Ignored.

        Raises:
            InvalidState: A connection that is not known, or what only a host can do, or this is
                closed; nothing was sent.
            BrokerFault: The broker's bytes break the standard, or an answer does not come.
        """
        self._check_open()
        self._begin()
        if isinstance(event, ClientConnected):
            self._connect(event)
        elif isinstance(event, ConnectionLost):
            self._lose(self._link(event.connection))
        else:
            link = self._link(getattr(event, "connection", None))
            data = bytes_of(event, link.version)
            if link.is_closed:
                return Outcome()
            self._note(event)
            link.unsent += data
            if isinstance(event, PingReceived):
                link.pings.append(True)
            elif isinstance(event, DisconnectReceived):
                link.state = State.LEAVING
                link.reason_code = ReasonCode.SUCCESS
        return self._finish()

    def handle_timeout(self, now: float = 0.0) -> Outcome:
        """What the broker has sent by itself since the last call, once it is quiet."""
        self._check_open()
        self._begin()
        return self._finish()

    def _finish(self) -> Outcome:
        self._settle()
        actions, self._actions = tuple(self._actions), []
        return Outcome(actions=actions)

    def wait(self, seconds: float) -> Outcome:
        """Let time pass without a sign of life from any client; return what the broker sent."""
        self._check_open()
        self._begin(seconds)
        self._pass_time(seconds)
        return self.handle_timeout()

    # ------------------------------------------------------------ leaving nothing behind

    def reset(self) -> None:
        """End every connection and session, and clear every retained message, made through here.

        What a will or a delayed will publishes because of that is cleared too. The own connection
        is made anew if the broker has closed it.

        Raises:
            ConnectionError: The broker is gone, and nothing could be removed.
            BrokerFault: Something could not be removed; the rest has been, and the next call tries
                what is left.
        """
        self._check_open()
        for link in list(self._links.values()):
            if link.state is State.OPEN:  # so that no will is published
                link.unsent += b"\xe0\0"
            if not link.is_closed:
                self._close_sending(link)
                self._begin()
                try:
                    self._turn_until(lambda: link.is_closed, link)  # noqa: B023
                except BrokerFault:
                    pass  # it is dropped, whatever it still sends
            self._drop(link)
        self._begin()
        if self._own.state is not State.OPEN:
            self._drop(self._own)
            self._own = self._connect_own()
        faults = self._clean(self._client_ids, self._discard)
        faults += self._clean(self._retained, self._clear)
        self._begin()
        self._settle()
        self._actions.clear()
        if faults:
            raise faults[0]

    def _clean(
        self, left: dict[str, None], clean: Callable[[str], None]
    ) -> list[BrokerFault | OSError]:
        """Do so for each; what fails stays noted, and does not keep the others from it."""
        faults: list[BrokerFault | OSError] = []
        for each in list(left):
            self._begin()
            try:
                clean(each)
            except (BrokerFault, OSError) as fault:
                faults.append(fault)
            else:
                del left[each]
        return faults

    def _clear(self, topic_name: str) -> None:
        """Remove a topic's retained message; PINGRESP tells that it has been done."""
        if self._own.state is not State.OPEN:  # an earlier topic may have cost it
            self._drop(self._own)
            self._own = self._connect_own()
        message = Message(topic_name, retain=True)
        self._own.unsent += bytes_of(PublishReceived(None, message), self._own.version)
        self._ping_all()

    def close(self) -> None:
        """`reset`, and end the own connection too; harmless if it has been done."""
        if self._is_done:
            return
        try:
            self.reset()
            self._own.unsent += b"\xe0\0"
            self._own.flush()
        finally:
            for link in [*self._links.values(), self._own]:
                link.socket.close()
                link.state = State.CLOSED
            self._links.clear()
            self._selector.close()
            self._is_done = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        try:
            self.close()
        except (BrokerFault, OSError):
            if kind is None:  # what went wrong first is what is of interest
                raise

    # ------------------------------------------------------------ connections

    def _check_own(self) -> None:
        if self._own.state is not State.OPEN:
            raise BrokerFault("quiet", "the broker has closed the adapter's own connection")

    def _begin(self, besides: float = 0.0) -> None:
        """A step starts, and with it what the broker may take for it."""
        self._budget = Budget(_PATIENCE * (self._timeout + self._quiet) + besides)

    def _check_open(self) -> None:
        if self._is_done:
            raise InvalidState("this BrokerSubject is closed")

    def _link(self, connection: Hashable) -> Link:
        link = self._links.get(connection)
        if link is None:
            raise InvalidState(f"connection {connection!r} is not known here")
        return link

    def _open(self, connection: Hashable) -> Link:
        link = Link(connection, self._address, self._timeout)
        self._selector.register(link.socket, selectors.EVENT_READ, link)
        return link

    def _drop(self, link: Link) -> None:
        """Forget a connection, in whatever state it is."""
        if link.socket.fileno() in self._selector.get_map():
            self._selector.unregister(link.socket)
        link.socket.close()
        self._links.pop(link.connection, None)

    def _connect(self, event: ClientConnected) -> None:
        data = bytes_of(event, event.protocol_version)
        link = self._links.get(event.connection)
        if link is not None and link.is_closed:
            raise InvalidState(f"connection {event.connection!r} is closed but not yet lost")
        self._note(event)
        if link is None:
            link = self._links[event.connection] = self._open(event.connection)
            link.speaks(event.protocol_version)
            link.client_id = event.client_id
        link.unsent += data

    def _lose(self, link: Link) -> None:
        """End a connection without DISCONNECT, and wait until the broker has noticed.

        Only the sending side is closed at first: the broker then closes its own, and that can be
        seen. What it still sends until then is nobody's.
        """
        if not link.is_closed:
            self._close_sending(link)
            kept = len(self._actions)
            self._turn_until(lambda: link.is_closed, link)
            self._actions[kept:] = [
                action
                for action in self._actions[kept:]
                if getattr(action, "connection", None) != link.connection
            ]
        self._drop(link)

    def _close_sending(self, link: Link) -> None:
        link.flush()
        try:
            link.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the broker was faster

    def _connect_own(self, client_id: str = "") -> Link:
        """A connection that belongs to no client under test."""
        client_id = client_id or "quiet" + secrets.token_hex(8)
        link = self._try_own(client_id, 5)
        if link.state is not State.OPEN and link.may_speak_less:
            self._drop(link)
            link = self._try_own(client_id, 4)
        if link.state is State.OPEN:
            return link
        self._drop(link)
        host, port = self._address
        why = f"{host}:{port} does not accept client {client_id!r}: {self._refusal(link)}"
        raise BrokerFault("MQTT-3.1.4-5", why)

    def _try_own(self, client_id: str, version: int) -> Link:
        """CONNECT, and wait for what becomes of it."""
        link = self._open(_OWN)
        try:
            link.speaks(version)
            link.unsent += bytes_of(ClientConnected(_OWN, client_id, version), version)
            self._turn_until(lambda: link.state is not State.CONNECTING, link)
        except BaseException:
            self._drop(link)
            raise
        return link

    def _refusal(self, link: Link) -> str:
        if link.refusal is not None:
            return f"refused with 0x{link.refusal:02x}"
        if link.is_closed:
            return "closed without CONNACK"
        return f"no answer to CONNECT in {self._timeout:g} s"

    def _discard(self, client_id: str) -> None:
        """End a client's session: Clean Start 1 and no Session Expiry Interval."""
        link = self._connect_own(client_id)
        try:
            link.unsent += b"\xe0\0"
            link.state = State.LEAVING
            self._close_sending(link)
            self._turn_until(lambda: link.is_closed, link)
        finally:
            self._drop(link)

    def _note(self, event: Event) -> None:
        """Remember what `reset` has to remove."""
        message = None
        if isinstance(event, ClientConnected):
            message = event.will and event.will.message
        elif isinstance(event, PublishReceived):
            message = event.message
        if message and message.retain and is_valid_topic(message.topic_name):
            self._retained[message.topic_name] = None

    # ------------------------------------------------------------ until it is quiet

    def _settle(self) -> None:
        """Read until the broker has nothing more to say."""
        quiet_rounds = 0
        while quiet_rounds < _QUIET_ROUNDS:
            before = len(self._actions)
            self._await_answers()
            self._await_closes()
            self._ping_all()
            if len(self._actions) > before:
                quiet_rounds = 0
                continue
            quiet_rounds += 1
            if quiet_rounds == _QUIET_ROUNDS and self._quiet:
                self._pass_time(self._quiet)
                if len(self._actions) > before:
                    quiet_rounds = 0

    def _await_answers(self) -> None:
        """CONNACK comes, or the connection is closed."""
        for link in list(self._links.values()):
            if link.state is not State.CONNECTING:
                continue
            self._turn_until(lambda: link.state is not State.CONNECTING, link)  # noqa: B023
            if link.state is State.CONNECTING:
                raise BrokerFault(
                    "MQTT-3.1.4-5",
                    f"connection {link.connection!r}: {self._refusal(link)}",
                )

    def _await_closes(self) -> None:
        """Where DISCONNECT was said, or CONNACK refused, the broker closes.

        After its own DISCONNECT a client closes whatever the broker does [MQTT-3.14.4-2]. Where
        the broker must close and does not, no `CloseConnection` is reported.
        """
        for link in list(self._links.values()):
            if link.state is State.LEAVING and not link.is_overdue:
                self._turn_until(lambda: link.is_closed, link)  # noqa: B023
                link.is_overdue = True
            if link.state is State.LEAVING and link.reason_code is ReasonCode.SUCCESS:
                self._close_sending(link)
                link.state = State.CLOSED
                self._ended(link)

    def _ping_all(self) -> None:
        self._check_own()
        self._turn(0.0)
        links = [*self._links.values(), self._own]
        for link in links:
            if link.state is State.OPEN:
                link.pings.append(False)
                link.unsent += PINGREQ
        for link in links:
            self._turn_until(lambda: link.state is not State.OPEN or not link.pings, link)  # noqa: B023
            if link.state is State.OPEN and link.pings:
                raise BrokerFault(
                    "MQTT-3.12.4-1",
                    f"connection {link.connection!r}: no PINGRESP in {self._timeout:g} s",
                )

    def _pass_time(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._turn(left)

    def _turn_until(self, done: Callable[[], bool], link: Link) -> None:
        """Read until it is so, or `timeout` has passed without a byte on the connection."""
        until = time.monotonic() + self._timeout
        while not done() and (left := until - time.monotonic()) > 0:
            if self._turn(left, link):
                until = time.monotonic() + self._timeout

    # ------------------------------------------------------------ bytes and packets

    def _turn(self, wait: float, besides: Link | None = None) -> bool:
        """Write and read once, oldest connection first; whether anything has come.

        Reading in this order, and all connections each time, keeps what the broker did to an old
        connection in front of what it said to a new one.
        """
        self._budget.spend()
        links = list(self._links.values())
        links += [
            link
            for link in (getattr(self, "_own", None), besides)
            if link is not None and link not in links and not link.is_closed
        ]
        for link in links:
            if link.unsent and not link.is_closed:
                link.flush()
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.unsent else 0)
                self._selector.modify(link.socket, wanted, link)
        self._selector.select(wait)
        came = False
        for link in links:
            if link.is_closed:
                continue
            for packet in link.read(self._budget):
                came = True
                self._take(link, packet)
            if link.is_closed:
                came = True
                self._selector.unregister(link.socket)
                self._ended(link)
        return came

    def _ended(self, link: Link) -> None:
        if link is getattr(self, "_own", None):
            self._check_own()
        if link.connection is not _OWN:
            self._actions.append(CloseConnection(link.connection, link.reason_code))

    def _take(self, link: Link, packet: Packet) -> None:
        """One packet from the broker, as an action."""
        if isinstance(packet, Pingresp):
            if link.pings and not link.pings.popleft():
                return  # what this adapter asked for
        elif isinstance(packet, Connack):
            accepted = packet.reason_code == 0
            link.state = State.OPEN if accepted else State.LEAVING
            link.refusal = None if accepted else packet.reason_code
            if isinstance(packet.reason_code, ReasonCode) and not accepted:
                link.reason_code = packet.reason_code
            client_id = packet.assigned_client_identifier or link.client_id
            if accepted and client_id and link.connection is not _OWN:
                self._client_ids[client_id] = None
        elif isinstance(packet, Disconnect):
            link.state = State.LEAVING
            link.reason_code = _reason_code(packet.reason_code)
        make = _ACTIONS.get(type(packet))
        if make is None:
            name = type(packet).__name__.upper()
            raise BrokerFault("MQTT-4.12.0-6", f"{name} on connection {link.connection!r}")
        if link.connection is not _OWN:
            self._actions.append(make(link.connection, packet))


class _Own:
    def __repr__(self) -> str:
        return "of the adapter's own"


_OWN = _Own()
"""The name of the connections that belong to no client under test."""


def _reason_code(code: int) -> ReasonCode:
    return code if isinstance(code, ReasonCode) else ReasonCode.UNSPECIFIED_ERROR


def _connack(connection: Hashable, packet: Connack) -> Action:
    return SendConnack(
        connection,
        packet.session_present,
        packet.reason_code,
        packet.session_expiry_interval,
        packet.receive_maximum,
        packet.maximum_qos,
        packet.retain_available,
        packet.maximum_packet_size,
        packet.assigned_client_identifier,
        packet.topic_alias_maximum,
        packet.server_keep_alive,
        packet.shared_subscription_available,
    )


def _publish(connection: Hashable, packet: Publish) -> Action:
    message = packet.message
    interval = message.message_expiry_interval
    delivery = Delivery(
        message,
        message.qos,
        message.retain,
        packet.subscription_ids,
        message_expiry_interval=interval,
    )
    return SendPublish(connection, delivery, packet.packet_id, packet.dup, interval)


_ACTIONS: dict[type[Any], Callable[[Hashable, Any], Action]] = {
    Connack: _connack,
    Publish: _publish,
    Puback: lambda to, packet: SendPuback(to, packet.packet_id, packet.reason_code),
    Pubrec: lambda to, packet: SendPubrec(to, packet.packet_id, packet.reason_code),
    Pubrel: lambda to, packet: SendPubrel(to, packet.packet_id, packet.reason_code),
    Pubcomp: lambda to, packet: SendPubcomp(to, packet.packet_id, packet.reason_code),
    Suback: lambda to, packet: SendSuback(to, packet.packet_id, packet.reason_codes),
    Unsuback: lambda to, packet: SendUnsuback(to, packet.packet_id, packet.reason_codes),
    Pingresp: lambda to, packet: SendPingresp(to),
    Disconnect: lambda to, packet: SendDisconnect(to, _reason_code(packet.reason_code)),
}
