"""What was promised to whom: every message, who has to get it, and who may."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from mqtt_sessions import Delivery, Message
from mqtt_sessions.topics import matches

__all__ = ["Ledger", "Record", "Violated"]


class Violated(AssertionError):
    """A promise was broken.

    Attributes:
        kind: Which sort of promise, in a few words.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class Record:
    """One message, or one will.

    Attributes:
        message: What is published; its correlation data is the record's name.
        is_will: A will.
        may_expire: It has an expiry interval.
        is_promised: Its publisher was told that it was taken, or the will is due for certain.
        is_withdrawn: The client was told that its will is not published.
        may_be_older: It may have been routed before all that may be retained on its topic.
        owed: Clients that certainly had a subscription whenever it was routed, less those that
            have it or were excused; None: it was never routed.
        possible: Clients that may have had one.
        arrivals: When it arrived, as far as anyone has seen.
        seen: How often each client has handed on each arrival.
        asked_before: So many SUBSCRIBE there were when it was routed first.
        called_up: How often each has got it because it subscribed, at QoS 0 or 2.
    """

    def __init__(self, message: Message, *, is_will: bool = False) -> None:
        self.message = message
        self.is_will = is_will
        self.may_expire = message.message_expiry_interval is not None
        self.is_promised = False
        self.is_withdrawn = False
        self.may_be_older = False
        self.owed: set[str] | None = None
        self.possible: set[str] = set()
        self.reached: set[str] = set()
        self.arrivals: set[float] = set()
        self.seen: dict[tuple[str, float], int] = {}
        self.called_up: dict[str, int] = {}
        self.asked_before = 0

    def __str__(self) -> str:
        message = self.message
        what = "will" if self.is_will else "message"
        retained = ", retained" if message.retain else ""
        return f"{what} {self.name.decode()} (QoS {message.qos}{retained}, {message.topic_name})"

    @property
    def name(self) -> bytes:
        """What tells it from all others."""
        assert self.message.correlation_data is not None
        return self.message.correlation_data

    @property
    def left_retained(self) -> bytes:
        """What is retained once it was published: itself, or nothing."""
        return self.name if self.message.payload else b""


class Ledger:
    """All messages.

    Attributes:
        lines: What happened, for the account of a failure.
        retained: By topic: names of messages that may be retained there, b"" for none.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.records: dict[bytes, Record] = {}
        self.open: dict[bytes, Record] = {}
        self.retained: dict[str, list[bytes]] = {}
        self._asked: list[tuple[str, str]] = []

    def note(self, line: str) -> None:
        """Tell what happened."""
        self.lines.append(line)

    def new(
        self,
        topic_name: str,
        qos: int,
        *,
        retain: bool = False,
        size: int = 5,
        expiry: int | None = None,
        is_will: bool = False,
    ) -> Record:
        """A message like no other; retained without a payload, it clears the topic."""
        name = b"%d" % (len(self.records) + 1)
        record = Record(
            Message(topic_name, b"-" * size, qos, retain, expiry, correlation_data=name),
            is_will=is_will,
        )
        self.records[name] = self.open[name] = record
        return record

    def of(self, message: Message) -> Record:
        """The account of a message that was seen somewhere."""
        record = self.records.get(message.correlation_data or b"")
        if record is None or evolve(record.message, qos=0, retain=False) != evolve(
            message, qos=0, retain=False
        ):
            raise Violated("never published", f"{message!r} is no message that was published")
        return record

    # ------------------------------------------------------------ messages

    def routed(self, record: Record, sure: Iterable[str], possible: Iterable[str]) -> None:
        """The store has taken it in, perhaps not for the first time."""
        sure = set(sure) - record.reached
        if record.owed is None:
            record.owed = sure
            record.asked_before = len(self._asked)
        record.owed &= sure
        record.possible.update(possible)
        message = record.message
        if message.retain:
            self.retained.setdefault(message.topic_name, [b""]).append(record.name)

    def promised(self, record: Record) -> None:
        """Its publisher was told."""
        record.is_promised = True
        message = record.message
        # A repeat of what was stored before is not routed again, and stands where it stood.
        if message.retain and not (record.may_be_older and message.qos == 2):
            candidates = self.retained[message.topic_name]
            if record.name in candidates:
                at = candidates.index(record.name)
                for each in candidates[:at]:
                    if each:
                        self.records[each].may_be_older = True
                del candidates[:at]

    def excused(self, client_id: str, record: Record | None = None) -> None:
        """A client need not get it (None: anything) any more."""
        for each in self.open.values() if record is None else [record]:
            if each.owed is not None:
                each.owed.discard(client_id)

    def handed_on(self, client_id: str, delivery: Delivery, session_since: float) -> None:
        """A client gives a message to its application."""
        record = self.of(delivery.message)
        record.reached.add(client_id)
        if record.owed is not None:
            record.owed.discard(client_id)
        if delivery.is_retained:
            if delivery.qos != 1:
                self._called_up(client_id, record, delivery.qos)
            return
        at = delivery.received_at
        record.arrivals.add(at)
        if record.is_withdrawn:
            raise Violated("withdrawn will", f"{client_id} got {record}, which was withdrawn")
        if client_id not in record.possible:
            raise Violated("unasked", f"{client_id} got {record} without a subscription")
        if at < session_since:
            raise Violated("old session", f"{client_id} got {record} of a session that had ended")
        if (record.message.qos == 2 or record.is_will) and len(record.arrivals) > 1:
            raise Violated("published twice", f"{client_id} got {record}, which was routed twice")
        times = record.seen[client_id, at] = record.seen.get((client_id, at), 0) + 1
        if delivery.qos != 1 and times > 1:
            raise Violated(
                f"QoS {delivery.qos} duplicate", f"{client_id} got {record} {times} times"
            )

    def asked(self, client_id: str, topic_filter: str) -> None:
        """A client subscribes, and so calls up what is retained."""
        self._asked.append((client_id, topic_filter))

    def _called_up(self, client_id: str, record: Record, qos: int) -> None:
        """Each SUBSCRIBE may call up once what is retained, one that is being answered too."""
        times = record.called_up[client_id] = record.called_up.get(client_id, 0) + 1
        asked = sum(
            each == client_id and matches(topic_filter, record.message.topic_name)
            for each, topic_filter in self._asked[record.asked_before :]
        )
        if times > max(asked, 1):
            raise Violated(
                f"QoS {qos} duplicate",
                f"{client_id} got {record}, retained, {times} times for {asked} SUBSCRIBE",
            )

    # ------------------------------------------------------------ judgments

    def check_retained(self, retained: Iterable[Message]) -> None:
        """Right after a crash: on each topic stands what may stand there."""
        there = {message.topic_name: self.of(message).name for message in retained}
        for topic_name, candidates in self.retained.items():
            found = there.pop(topic_name, b"")
            records = [self.records[each] for each in candidates if each]
            allowed = [each.left_retained for each in records]
            if b"" in candidates or any(each.may_expire for each in records):
                allowed.append(b"")
            if found not in allowed:
                wanted = " or ".join(each.decode() or "nothing" for each in allowed)
                raise Violated(
                    "retained message",
                    f"{topic_name} has {found.decode() or 'nothing'} instead of {wanted}",
                )
            self.retained[topic_name] = [found]
        for record in self.open.values():
            record.may_be_older = record.owed is not None
        if there:
            raise Violated("retained message", f"nobody retained {sorted(there)}")

    def settle(self) -> None:
        """Everybody had time: what was promised has been kept."""
        for record in self.open.values():
            if not record.is_promised:
                continue
            if record.owed is None:
                raise Violated("lost", f"{record} was never published")
            if record.owed:
                raise Violated("lost", f"{record} never came to {', '.join(sorted(record.owed))}")
        self.open.clear()
