"""Clients that remember what they were told, and hold a store to it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from mqtt_sessions import (
    Action,
    ClientConnected,
    CloseConnection,
    DisconnectReceived,
    Event,
    Phase,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    ReasonCode,
    SendConnack,
    SendPuback,
    SendPubcomp,
    SendPublish,
    SendPubrec,
    SendPubrel,
    SendSuback,
    SendUnsuback,
    Session,
    SubscribeReceived,
    Subscription,
    UnsubscribeReceived,
    Will,
)
from mqtt_sessions.topics import matches
from tests.powercut.ledger import Ledger, Record, Violated

__all__ = ["NEVER", "Client", "Link"]

NEVER = 0xFFFFFFFF
DEFAULT_EXPIRY = 7200.0
MAX_SENDINGS = 4


class Link:
    """A network connection as its client sees it.

    Attributes:
        number: What the store calls it.
        at: When CONNECT was sent.
        clean: Clean Start.
        expiry: Seconds that the session is to outlive it.
        ends_session: CONNECT said that it is not to.
        must_resume: The session is there for certain.
        must_begin: There is none for certain.
        will: What CONNECT brought.
        delay: The will's.
        is_accepted: CONNACK was seen.
        is_ending: DISCONNECT was sent.
        until: When the session may end, for the store has ended the connection.
        drops_will: It said that the will is not to be published.
        asked: SUBSCRIBE and UNSUBSCRIBE that wait for their answer, by identifier.
        replies: What the client still has to answer.
    """

    def __init__(self, number: int, client: Client, at: float) -> None:
        self.number = number
        self.client = client
        self.at = at
        self.clean = False
        self.expiry = 0.0
        self.ends_session = False
        self.must_resume = False
        self.must_begin = False
        self.will: Record | None = None
        self.delay = 0
        self.is_accepted = False
        self.is_ending = False
        self.until = math.inf
        self.drops_will = False
        self.asked: dict[int, tuple[str, int | None]] = {}
        self.replies: deque[Event] = deque()


class _Known:
    """A subscription, as far as its client knows.

    Attributes:
        is_sure: It is there.
        qos: What may be granted.
    """

    def __init__(self, qos: int) -> None:
        self.is_sure = False
        self.qos = {qos}


class _Sending:
    """A message that the client publishes at QoS 1 or 2.

    Attributes:
        link: Over which it was sent last.
        is_taken: PUBREC was seen.
        is_released: PUBREL was sent at least once.
        released_on: Over which link.
    """

    def __init__(self, record: Record, link: Link) -> None:
        self.record = record
        self.link = link
        self.is_taken = False
        self.is_released = False
        self.released_on: Link | None = None


class Client:
    """A client that never loses its own memory.

    Attributes:
        is_sure: It has a durable session, for certain.
        is_gone: It has none, for certain.
        must_clean: It may not take up what session there may be.
        until: When its session may end, if CONNACK does not say otherwise.
        since: When its session began, or later than some ends of others.
        subscriptions: By filter; what is not there is not subscribed for certain.
        sendings: By packet identifier.
        held: QoS 2 messages that were handed on and wait for PUBREL.
        releases: PUBREL that were seen and not answered.
        will: Waits for its delay.
    """

    def __init__(
        self, name: str, version: int, ledger: Ledger, feed: Callable[[Event], None]
    ) -> None:
        self.name = name
        self.version = version
        self.now = 0.0
        self.link: Link | None = None
        self.is_sure = False
        self.is_gone = True
        self.must_clean = False
        self.expiry = 0.0
        self.until = math.inf
        self.since = -math.inf
        self.subscriptions: dict[str, _Known] = {}
        self.sendings: dict[int, _Sending] = {}
        self.held: dict[int, Record] = {}
        self.releases: set[int] = set()
        self.will: Record | None = None
        self._ledger = ledger
        self._feed = feed
        self._latest: Link | None = None
        self._last_asked = 100

    # ------------------------------------------------------------ what is certain

    def doubt(self) -> None:
        """Whether the session is there is not certain any more: nobody owes it anything.

        What the client itself knows of it could be taken for a part of another one, so that it asks
        for a new one next time.
        """
        self.is_sure = self.is_gone = False
        self.must_clean = True
        for known in self.subscriptions.values():
            known.is_sure = False
        self._ledger.excused(self.name)

    def _gone(self) -> None:
        self.doubt()
        self._forget()
        self.is_gone = True
        self.must_clean = False
        self.subscriptions.clear()

    def _forget(self) -> None:
        """The client's own part of a session is over."""
        self.held.clear()
        self.releases.clear()
        self.sendings.clear()

    def at(self, now: float) -> None:
        """Time passes."""
        self.now = now
        if now >= self.until:
            self.until = math.inf
            self.doubt()

    def surely_gets(self, topic_name: str, qos: int) -> bool:
        """Whether a message has to come."""
        return (
            self.is_sure
            and qos > 0
            and self.expiry > 0
            and any(
                known.is_sure and min(known.qos) > 0 and matches(topic_filter, topic_name)
                for topic_filter, known in self.subscriptions.items()
            )
        )

    def may_get(self, topic_name: str) -> bool:
        """Whether a message may come."""
        return any(matches(topic_filter, topic_name) for topic_filter in self.subscriptions)

    # ------------------------------------------------------------ connections

    def connect(
        self,
        link: Link,
        *,
        clean: bool,
        expiry: int,
        will: Record | None,
        delay: int,
        receive_maximum: int | None,
    ) -> None:
        """CONNECT; MQTT 3.x has its own ways to say how long."""
        clean = clean or self.must_clean
        fields: dict[str, Any] = {"protocol_version": self.version, "clean_start": clean}
        if self.version == 5:
            seconds = math.inf if expiry == NEVER else float(expiry)
            fields |= {"session_expiry_interval": expiry, "receive_maximum": receive_maximum}
        else:
            seconds, delay = 0.0 if clean else DEFAULT_EXPIRY, 0
        self.link = self._latest = link
        link.clean, link.expiry, link.ends_session = clean, seconds, seconds == 0
        link.must_resume = self.is_sure and not clean
        link.must_begin = self.is_gone
        if clean:
            self._forget()
        if clean or seconds == 0:
            self.doubt()
        self.is_gone = False
        self.expiry = min(self.expiry, seconds)
        self.will = None
        if will is not None:
            link.will, link.delay = will, delay
            fields["will"] = Will(will.message, delay)
        self._feed(ClientConnected(link.number, self.name, **fields))

    def unlink(self, *, server_knows: bool) -> None:
        """The connection is no more."""
        link = self.link
        assert link is not None
        self.link = None
        self.until = min(self.until, self.now + self.expiry)
        if link.expiry == 0:
            if link.ends_session and link.is_accepted and server_knows:
                self._gone()
            else:
                self.doubt()
        will = link.will
        if will is not None and link.is_accepted and not link.drops_will:
            if link.delay == 0:
                will.is_promised = True
            else:
                self.will = will

    def stopped(self) -> None:
        """The store ends the connection now, and the client will know later."""
        if self.link is not None:
            self.link.until = min(self.link.until, self.now + self.expiry)
            self.until = min(self.until, self.link.until)

    def told_lost(self, link: Link) -> None:
        """The store has learned that a connection is gone that its client gave up before."""
        if self.link is None and link is self._latest and link.ends_session and link.is_accepted:
            self._gone()

    def will_is_due(self) -> None:
        """The will's delay is over, and nobody has connected meanwhile."""
        if self.will is not None and self.link is None:
            self.will.is_promised = True
            self.will = None

    def disconnect(self, code: ReasonCode, expiry: int | None) -> None:
        """DISCONNECT."""
        link = self.link
        assert link is not None
        link.is_ending = True
        link.drops_will = code is ReasonCode.SUCCESS
        if expiry is not None:
            link.expiry = float(expiry)
            self.expiry = min(self.expiry, float(expiry))
            if expiry == 0:
                self.doubt()
        self.stopped()
        self._feed(DisconnectReceived(link.number, code, expiry))

    # ------------------------------------------------------------ what it sends

    def subscribe(self, topic_filter: str, qos: int, retain_handling: int) -> None:
        """SUBSCRIBE."""
        link = self.link
        assert link is not None
        self._last_asked += 1
        link.asked[self._last_asked] = topic_filter, qos
        self.subscriptions.setdefault(topic_filter, _Known(qos)).qos.add(qos)
        wanted = Subscription(
            topic_filter, qos, retain_handling=retain_handling if self.version == 5 else 0
        )
        self._ledger.asked(self.name, topic_filter)
        self._feed(SubscribeReceived(link.number, self._last_asked, (wanted,)))

    def unsubscribe(self, topic_filter: str) -> None:
        """UNSUBSCRIBE."""
        link = self.link
        assert link is not None
        self._last_asked += 1
        link.asked[self._last_asked] = topic_filter, None
        if topic_filter in self.subscriptions:
            self.subscriptions[topic_filter].is_sure = False
        self._feed(UnsubscribeReceived(link.number, self._last_asked, (topic_filter,)))

    @property
    def can_publish(self) -> bool:
        """Whether an identifier is free."""
        return self.can_send and len(self.sendings) < MAX_SENDINGS

    @property
    def can_send(self) -> bool:
        """Whether it has a connection."""
        return self.link is not None and not self.link.is_ending

    def publish(self, record: Record) -> None:
        """PUBLISH, under the lowest free identifier, so that each is soon used again."""
        link = self.link
        assert link is not None
        packet_id = None
        if record.message.qos:
            packet_id = min(set(range(1, MAX_SENDINGS + 1)) - set(self.sendings))
            self.sendings[packet_id] = _Sending(record, link)
        self._feed(PublishReceived(link.number, record.message, packet_id))

    def repeat(self) -> None:
        """Everything that was not acknowledged, over the new connection.

        Without having seen CONNACK only to a session that is there for certain: in another one the
        messages would be new.
        """
        link = self.link
        if link is None or link.is_ending or not (link.is_accepted or link.must_resume):
            return
        for packet_id, sending in list(self.sendings.items()):
            if link is not self.link:
                return
            if sending.is_taken:
                if sending.released_on is not link:
                    self._release(packet_id, sending, link)
            elif sending.link is not link:
                sending.link = link
                self._feed(PublishReceived(link.number, sending.record.message, packet_id, True))

    def _release(self, packet_id: int, sending: _Sending, link: Link) -> None:
        sending.is_released = True
        sending.released_on = link
        self._feed(PubrelReceived(link.number, packet_id))

    def reply(self) -> bool:
        """Answer the oldest packet that waits for it; whether there was one."""
        link = self.link
        if link is None or link.is_ending or not link.replies:
            return False
        event = link.replies.popleft()
        if isinstance(event, PubrelReceived):
            sending = self.sendings.get(event.packet_id)
            if sending is not None and sending.is_taken and sending.released_on is not link:
                self._release(event.packet_id, sending, link)
            return True
        if isinstance(event, PubcompReceived):
            self.releases.discard(event.packet_id)
        self._feed(event)
        return True

    # ------------------------------------------------------------ what it is told

    def receive(self, link: Link, action: Action) -> None:
        """A packet has come, or the server closes."""
        match action:
            case SendConnack():
                self._on_connack(link, action)
            case SendPublish():
                self._on_publish(link, action)
            case SendPuback() | SendPubrec():
                self._on_taken(link, action)
            case SendPubcomp():
                sending = self.sendings.get(action.packet_id)
                if sending is not None and sending.released_on is link:
                    del self.sendings[action.packet_id]
            case SendPubrel():
                self.held.pop(action.packet_id, None)
                self.releases.add(action.packet_id)
                link.replies.append(PubcompReceived(link.number, action.packet_id))
            case SendSuback() | SendUnsuback():
                self._on_asked(link, action)
            case CloseConnection():
                self._on_close(link, action)

    def _on_connack(self, link: Link, action: SendConnack) -> None:
        if action.reason_code != 0:
            raise Violated("refused", f"{self.name} was refused: {action.reason_code!r}")
        link.is_accepted = True
        if self.version == 3 and not link.clean:
            pass  # it is not told [3.1]
        elif action.session_present:
            if link.clean or link.must_begin:
                raise Violated("session back", f"{self.name} has a session that had ended")
        else:
            if link.must_resume:
                raise Violated("session lost", f"{self.name} does not get its session back")
            self.held.clear()
            self.releases.clear()
            # what was sent behind this very CONNECT is in the new session
            asked = {topic_filter for topic_filter, _ in link.asked.values()}
            self.subscriptions = {
                topic_filter: known
                for topic_filter, known in self.subscriptions.items()
                if topic_filter in asked
            }
            self.sendings = {
                packet_id: sending
                for packet_id, sending in self.sendings.items()
                if link in (sending.link, sending.released_on)
            }
            self.since = link.at
        self.must_clean = False
        self.is_sure = link.expiry > 0
        self.expiry = link.expiry
        self.until = link.until
        self.at(self.now)

    def _on_publish(self, link: Link, action: SendPublish) -> None:
        delivery, packet_id = action.delivery, action.packet_id
        if not link.is_accepted:
            raise Violated("before CONNACK", f"{self.name} got PUBLISH first")
        if packet_id is None:
            self._ledger.handed_on(self.name, delivery, self.since)
        elif delivery.qos == 1:
            self._ledger.handed_on(self.name, delivery, self.since)
            link.replies.append(PubackReceived(link.number, packet_id))
        else:
            record = self._ledger.of(delivery.message)
            held = self.held.get(packet_id)
            if held is None:
                self.held[packet_id] = record
                self._ledger.handed_on(self.name, delivery, self.since)
            elif held is not record:
                raise Violated(
                    "identifier in use",
                    f"{self.name} holds identifier {packet_id} for {held} and gets {record}",
                )
            link.replies.append(PubrecReceived(link.number, packet_id))

    def _on_taken(self, link: Link, action: SendPuback | SendPubrec) -> None:
        packet_id = action.packet_id
        sending = self.sendings.get(packet_id)
        if sending is None or sending.link is not link:
            return
        record = sending.record
        if action.reason_code >= 0x80:
            raise Violated("refused", f"{self.name}'s {record} was: {action.reason_code!r}")
        self._ledger.promised(record)
        if record.message.qos == 1:
            del self.sendings[packet_id]
        else:
            sending.is_taken = True
            link.replies.append(PubrelReceived(link.number, packet_id))

    def _on_asked(self, link: Link, action: SendSuback | SendUnsuback) -> None:
        topic_filter, qos = link.asked.pop(action.packet_id)
        later = [asked_qos for name, asked_qos in link.asked.values() if name == topic_filter]
        if qos is None:
            if not later:
                self.subscriptions.pop(topic_filter, None)
            return
        assert isinstance(action, SendSuback)
        known = self.subscriptions.setdefault(topic_filter, _Known(qos))
        known.is_sure = None not in later
        known.qos = {int(action.reason_codes[0]), *(each for each in later if each is not None)}

    def _on_close(self, link: Link, action: CloseConnection) -> None:
        self.unlink(server_knows=True)
        if link.is_ending and action.reason_code is ReasonCode.SUCCESS:
            if link.drops_will and link.will is not None:
                link.will.is_withdrawn = True
            if link.expiry == 0:
                self._gone()

    # ------------------------------------------------------------ judgment

    def check(self, session: Session | None) -> None:
        """Right after a crash: what it was told is so."""
        name = self.name
        if session is not None and session.session_expiry_interval == 0:
            session = None  # only its will is left
        if self.is_gone and session is not None:
            raise Violated("session back", f"{name} has a session that had ended")
        if not self.is_sure:
            return
        if session is None:
            raise Violated("session lost", f"{name} has no session any more")
        found = {each.topic_filter: each.qos for each in session.subscriptions}
        for topic_filter, known in self.subscriptions.items():
            qos = found.pop(topic_filter, None)
            if qos is None and known.is_sure:
                raise Violated("subscription lost", f"{name} has no {topic_filter} any more")
            if qos is not None and qos not in known.qos:
                raise Violated("subscription lost", f"{name} has {topic_filter} at QoS {qos}")
        if found:
            raise Violated("subscription back", f"{name} has {sorted(found)} again")
        phases = {each.packet_id: each.phase for each in session.in_flight}
        for packet_id, record in self.held.items():
            if packet_id not in phases:
                raise Violated("identifier lost", f"{packet_id} of {name}, which holds {record}")
        for packet_id in self.releases:
            if phases.get(packet_id) is not Phase.AWAITING_PUBCOMP:
                raise Violated("phase lost", f"{name} was told PUBREL {packet_id}")
        inbound = set(session.inbound_packet_ids)
        for packet_id, sending in self.sendings.items():
            if sending.is_taken and not sending.is_released and packet_id not in inbound:
                raise Violated("identifier lost", f"{name} was told PUBREC {packet_id}")
        taken = inbound - set(self.sendings)
        if taken:
            raise Violated("identifier not free", f"{name} was told PUBCOMP of {sorted(taken)}")
