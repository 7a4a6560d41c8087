"""The reference model, part 10: what was told, what was dropped, and what is still owed."""

from __future__ import annotations

from itertools import permutations

from mqtt_sessions.messages import Delivery
from mqtt_sessions.notices import (
    DropReason,
    MessageDropped,
    Notice,
    PeerErrorDetected,
    RetainedMessageDropped,
    SessionCreated,
    SessionEnded,
    SessionResumed,
    SessionTakenOver,
    WillPublished,
)
from mqtt_sessions.policy import OverflowPolicy
from mqtt_sessions.testing.model_sending import Sending
from mqtt_sessions.testing.model_values import (
    Copy,
    Disagreement,
    ModelConnection,
    ModelSession,
    Replay,
    Told,
    size_in_bytes,
)

__all__ = ["Settling"]


STAGES = (SessionTakenOver, SessionEnded, SessionCreated, SessionResumed)


class Settling(Sending):
    """The end of a step."""

    # ------------------------------------------------------------ notices

    def _observe_notice(self, notice: Notice) -> None:
        self._notices_given = True
        if isinstance(notice, MessageDropped):
            self._dropped.append(notice)
            return
        if isinstance(notice, WillPublished):
            self._retained_told.append(notice)
        if isinstance(notice, RetainedMessageDropped):
            if not self._is_told(notice):
                self._retained_dropped.append(notice)
                self._retained_told.append(notice)
            return
        if not self._is_told(notice):
            raise Disagreement("host", f"this did not happen: {notice}")

    def _is_told(self, notice: Notice) -> bool:
        for told in self._told:
            if any(_same(notice, each) for each in told.alternatives):
                self._check_stage(told, notice)
                self._told.remove(told)
                return True
        return False

    def _check_stage(self, told: Told, notice: Notice) -> None:
        """NN-3.1: a session is taken over, then it ends, then the next one begins."""
        if not isinstance(notice, STAGES):
            return
        for earlier in self._told[: self._told.index(told)]:
            first = earlier.alternatives[0]
            if isinstance(first, STAGES) and first.client_id == notice.client_id:
                raise Disagreement("NN-3.1", f"{first} comes first: {notice}")

    # ------------------------------------------------------------ the end of a step

    def settle(self) -> None:
        """The step is over.

        Raises:
            Disagreement: Something that was owed was not done, a drop was not allowed, a bound does
                not hold.
        """
        if self._undecided is not None:
            self._decide(None)
        for notice in self._dropped:
            self._settle_drop(notice)
        self._settle_retained()
        for session in (*self._ended, *self.sessions.values()):
            self._settle_queue(session)
        for session in self.sessions.values():
            if not self._notices_given:
                self._doubt(session)
            self._settle_bounds(session)
        for connection in self.connections.values():
            self._settle_connection(connection)
        if any(at <= self.now for at in self._retries()):
            raise Disagreement("host", "a packet was not sent again, which the policy asks for")
        if self._notices_given:
            for told in self._told:
                if told.required:
                    raise Disagreement("host", f"no notice tells {told.alternatives[0]}")
            for gone in self._gone:
                if gone.required:
                    what = gone.copy.message
                    detail = (
                        f"{gone.client_id}: no notice tells that {what} was {gone.reason.value}"
                    )
                    raise Disagreement("host", detail)
        for each in (self._told, self._gone, self._dropped, self._ended, self._published):
            each.clear()
        self._retained_told.clear()
        self._retentions.clear()
        self._retained_before.clear()
        self._is_mixed = False
        self._retained_dropped.clear()
        self._retained_gone.clear()
        self._replaced.clear()
        self.step += 1

    def _settle_connection(self, connection: ModelConnection) -> None:
        for owed in connection.owed:
            if not owed.optional:
                what = "" if owed.packet_id is None else f" for {owed.packet_id}"
                detail = f"{connection.name!r} is owed {owed.action.__name__}{what}"
                raise Disagreement(owed.rule, detail)
        connection.owed.clear()
        session = connection.session
        if not connection.open or session is None or connection.gone:
            return
        if connection.rerelease:
            first = connection.rerelease[0].packet_id
            rule = connection.cite("MQTT-4.4.0-1")
            raise Disagreement(rule, f"{connection.name!r} is owed PUBREL {first} again")
        if not connection.congested:
            self._settle_sendable(connection, session)

    def _settle_sendable(self, connection: ModelConnection, session: ModelSession) -> None:
        """Nothing waits that could be sent [MQTT-4.4.0-1, MQTT-4.5.0-1]."""
        room = self.room(connection)
        name = repr(connection.name)
        again = [each for each in connection.resend if not each.doubtful]
        if again:
            if room > 0:
                packet_id = again[0].packet_id
                rule = connection.cite("MQTT-4.4.0-1")
                raise Disagreement(rule, f"{name} is owed PUBLISH {packet_id} again")
            return
        waiting = [copy for copy in session.queue if not copy.doubtful]
        if waiting and room > 0:  # NN-10.3: QoS 0 too may wait for the quota
            what = waiting[0].message
            rule = connection.cite("MQTT-3.1.2-8" if waiting[0].is_will else "MQTT-4.5.0-1")
            raise Disagreement(rule, f"{name} has room, and {what} was not sent")
        if room <= 0:
            return
        self._settle_overlaps(connection, session)
        session.queue.clear()  # what may have been dropped was
        called_up = [
            (values[0], replay)
            for replay in session.replays
            for values in replay.pending.values()
            if self._is_owed(session, replay, values[0])
        ]
        # Who sends none of them has not only forgotten to retain a will
        for copy, replay in sorted(called_up, key=lambda each: each[0].is_will):
            detail = f"{name} called up {copy.message}, and it was not sent"
            raise Disagreement(_called_up_rule(connection, replay, copy), detail)
        session.replays.clear()  # all have come to their end

    # ------------------------------------------------------------ drops

    def _settle_drop(self, notice: MessageDropped) -> None:
        """A notice of a drop is right, or it hides a loss."""
        delivery, reason = notice.delivery, notice.reason
        for gone in self._gone:
            same = gone.client_id == notice.client_id and gone.copy.message == delivery.message
            if same and reason in (gone.reason, gone.other):
                self._gone.remove(gone)
                return
        ended = any(each.client_id == notice.client_id for each in self._ended)
        if reason is DropReason.SESSION_ENDED and delivery.message in self._published and ended:
            self._take_ended(notice)  # it came in at the instant of the end
            return
        session = self.sessions.get(notice.client_id)
        for each in (*self._ended, session):
            if each is None or each.client_id != notice.client_id:
                continue
            copies = [copy for copy in each.queue if copy.message == delivery.message]
            if reason is DropReason.QOS0_OFFLINE:
                copies.reverse()  # it is the one that came last
            copies.sort(key=lambda copy: _differs(copy, delivery))
            for copy in copies:
                if copy.qos != delivery.qos:
                    continue
                if copy.must_go is reason or self._may_drop(each, copy, reason):
                    self._check_offered(each, copy)
                    each.queue.remove(copy)
                    fate = "expired" if reason is DropReason.EXPIRED else "dropped"
                    each.remember(copy.message, fate)
                    return
        if session is not None and self._dropped_elsewhere(session, notice):
            return
        message = delivery.message
        rule = self._withheld.get((message.topic_name, message.payload), _drop_rule(reason))
        raise Disagreement(rule, f"nothing allows this drop: {notice}")

    def _take_ended(self, notice: MessageDropped) -> None:
        for each in self._ended:
            for copy in each.queue:
                if each.client_id == notice.client_id and copy.message == notice.delivery.message:
                    each.queue.remove(copy)
                    return

    def _dropped_elsewhere(self, session: ModelSession, notice: MessageDropped) -> bool:
        """Retained messages that were called up, and exchanges too large for a new connection."""
        connection, message = session.connection, notice.delivery.message
        if notice.reason is DropReason.NO_LOCAL:
            # NN-14.5, and told for each filter that called the message up
            return notice.delivery.is_retained and notice.delivery.publisher == session.client_id
        for exchange in [] if connection is None else list(connection.resend):
            assert connection is not None
            same = exchange.copy.message == message
            if same and self._may_be_given_up(connection, session, exchange):
                self._give_up(connection, session, exchange)
                return True
        if not notice.delivery.is_retained or notice.reason is not DropReason.TOO_LARGE:
            return False
        for each in session.replays:
            each.excused.append(message.topic_name)  # MQTT-3.1.2-25: as if it were delivered
        return connection is not None and connection.maximum_packet_size is not None

    def _may_drop(self, session: ModelSession, copy: Copy, reason: DropReason) -> bool:
        if session.ended:
            # Two things at one instant: what came in then may have been dropped before the end
            if reason is DropReason.EXPIRED and copy.expires_at is not None:
                return copy.expires_at <= self.now
            full = reason in (DropReason.QUEUE_FULL, DropReason.BYTES_FULL)
            return copy.step == self.step or (full and session.wanted_in == self.step)
        if copy.must_go is not None:
            return False
        connection = session.connection
        limits = session.limits
        if reason is DropReason.EXPIRED:
            return copy.fleeting and copy.step == self.step  # NN-9.4
        if reason is DropReason.TOO_LARGE:  # MQTT-3.1.2-25
            return connection is not None and self._too_large(connection, copy)
        if reason is DropReason.QOS0_OFFLINE:
            at_once = connection is None or copy.step == self.step
            return copy.qos == 0 and not limits.queue_qos0 and at_once
        if session.wanted_in != self.step:
            return False  # nothing wanted in
        waiting = [each for each in session.queue if each.must_go is None]
        if reason is DropReason.QUEUE_FULL:
            most = limits.maximum_queued_messages
            full = most is not None and len(waiting) > most
        elif reason is DropReason.BYTES_FULL:
            held = limits.maximum_queued_bytes
            total = sum(size_in_bytes(each.message) for each in waiting)
            alone = held is not None and size_in_bytes(copy.message) > held
            if alone and copy.step == self.step:
                return True
            full = held is not None and total > held
        else:
            return False
        return full and self._gives_way(session, copy, waiting)

    def _gives_way(self, session: ModelSession, copy: Copy, waiting: list[Copy]) -> bool:
        """Whether the overflow policy names this one, whichever newcomers came before."""
        old = [each for each in waiting if each.step < self.step]
        new = [each for each in waiting if each.step == self.step]
        victims = [
            _victim(session.limits.overflow, [*old, *some])
            for count in range(1, min(len(new), 5) + 1)
            for some in permutations(new, count)
        ]
        # Copies of one message, one for each match, stand in any order
        by_qos = session.limits.overflow is OverflowPolicy.DROP_EXPIRED_QOS0_OLDEST
        return any(
            each.serial == copy.serial and (not by_qos or (each.qos == 0) == (copy.qos == 0))
            for each in victims
        )

    # ------------------------------------------------------------ queues

    def _settle_queue(self, session: ModelSession) -> None:
        """What had to be dropped was told to be; it is gone in any case."""
        for copy in list(session.queue):
            reason = copy.must_go or self._has_to_go(session, copy)
            if reason is None:
                continue
            session.queue.remove(copy)
            fate = "expired" if reason is DropReason.EXPIRED else "dropped"
            session.remember(copy.message, fate)
            newcomer = session.ended and copy.step == self.step
            if self._notices_given and not newcomer:
                detail = (
                    f"{session.client_id}: {copy.message} is {reason.value}, and no notice tells"
                )
                raise Disagreement(_drop_rule(reason), detail)

    def _has_to_go(self, session: ModelSession, copy: Copy) -> DropReason | None:
        connection = session.connection
        if copy.fleeting and not self._notices_given:
            copy.doubtful = True  # NN-9.4: it may go out at its instant, or not at all
            return None
        if copy.fleeting:
            self._check_offered(session, copy)
            return DropReason.EXPIRED
        if connection is None:
            offline = self._may_drop(session, copy, DropReason.QOS0_OFFLINE)
            if copy.step == self.step:
                return DropReason.QOS0_OFFLINE if offline else None
            # It waited for the quota when the connection ended: either will do
            copy.doubtful = copy.doubtful or (offline and not self._notices_given)
            return None
        if connection.congested or connection.resend:
            return None
        if session.queue[0] is copy and self.room(connection) > 0:
            return DropReason.TOO_LARGE if self._too_large(connection, copy) else None
        return None

    def _check_offered(self, session: ModelSession, copy: Copy) -> None:
        """NN-9.4: whoever can take a message with interval 0 now gets it."""
        connection = session.connection
        if not copy.fleeting or copy.must_go is not None or session.queue[0] is not copy:
            return
        if connection is None or connection.congested or connection.resend:
            return
        if self.room(connection) > 0 and not self._too_large(connection, copy):
            what = f"{session.client_id} could take {copy.message}, and was not offered it"
            raise Disagreement("NN-9.4", what)

    def _doubt(self, session: ModelSession) -> None:
        """What is too large for this connection may be gone, and the subject does not tell."""
        connection = session.connection
        if connection is None:
            return
        for exchange in connection.resend:
            gone = self._may_be_given_up(connection, session, exchange)
            exchange.doubtful = exchange.doubtful or gone
        for copy in session.queue:
            copy.doubtful = copy.doubtful or self._too_large(connection, copy)

    def _settle_bounds(self, session: ModelSession) -> None:
        limits = session.limits
        most, held = limits.maximum_queued_messages, limits.maximum_queued_bytes
        total = sum(size_in_bytes(each.message) for each in session.queue)
        over = (most is not None and len(session.queue) > most) or (
            held is not None and total > held
        )
        if over and any(each.step == self.step for each in session.queue):
            what = f"{session.client_id}: {len(session.queue)} messages of {total} bytes wait"
            if self._notices_given:
                raise Disagreement("host", f"{what}, the bound is {most} and {held} bytes")
            for copy in session.queue:
                copy.doubtful = True
            for overlap in session.overlaps:
                overlap.merged.doubtful = True
        for copy in list(session.queue):
            if copy.overtaken and copy.doubtful:
                session.queue.remove(copy)
            elif copy.overtaken:
                what = f"{session.client_id}: a later message went ahead of {copy.message}"
                raise Disagreement("MQTT-4.6.0-5", what)

    # ------------------------------------------------------------ retained messages

    def _settle_retained(self) -> None:
        credited: list[Copy] = []
        self._retain_as_told()
        for notice in self._retained_dropped:
            self._settle_retained_drop(notice, credited)
        for copy in credited:  # or its like, which took its place
            entry = self.retained.get(copy.message.topic_name)
            over = self._retained_overflow() is not None
            if over and entry is not None and entry.copy.message == copy.message:
                del self.retained[copy.message.topic_name]
        wanted_in = any(each.copy.step == self.step for each in self.retained.values())
        if self._notices_given:
            for copy in self._retained_gone:
                raise Disagreement("host", f"no notice tells that {copy.message} is not retained")
            if wanted_in and self._retained_overflow() is not None:
                raise Disagreement("host", "there are more retained messages than the bound allows")
        elif wanted_in and self._retained_overflow() is not None:
            for entry in self.retained.values():
                entry.doubtful = entry.doubtful or entry.copy.message.qos == 0

    def _retain_as_told(self) -> None:
        """Notices say in which order wills of one instant were published, and what gave way."""
        wills = [each for each in self._retentions if each.is_will and each.step == self.step]
        if self._is_mixed or len(wills) < 2 or len(wills) < len(self._retentions):
            return
        told: list[Copy | RetainedMessageDropped] = []
        for notice in self._retained_told:
            if isinstance(notice, RetainedMessageDropped):
                told.append(notice)
                continue
            for copy in wills:
                if copy.publisher == notice.client_id and copy.message == notice.message:
                    wills.remove(copy)
                    told.append(copy)
                    break
        if wills:
            return  # one of them is not told, which `settle` tells
        self.retained = dict(self._retained_before)
        for each in (self._replaced, self._retained_gone, self._retained_dropped):
            each.clear()
        for what in told:
            self._retentions.clear()  # whatever came before came before
            if isinstance(what, Copy):
                self._retain(what)
            else:
                self._settle_retained_drop(what)

    def _settle_retained_drop(
        self, notice: RetainedMessageDropped, credited: list[Copy] | None = None
    ) -> None:
        """A notice is right; without `credited` it is known what came before."""
        message, full = notice.message, (DropReason.QUEUE_FULL, DropReason.BYTES_FULL)
        for copy in self._retained_gone:
            if copy.message == message and notice.reason in full:
                self._retained_gone.remove(copy)
                return
        several = len(self._published) > 1 and notice.reason in full and credited is not None
        for copy in self._replaced if several and message.qos == 0 else ():
            # One publication of this step made it give way, and another one set the topic anew
            if copy.message == message and self._retained_overflow(*self._replaced) is not None:
                self._replaced.remove(copy)
                assert credited is not None
                credited.append(copy)
                return
        entry = self.retained.get(message.topic_name)
        held = [] if entry is None else [each.message for each in (entry.copy, *entry.rivals)]
        over = notice.reason in full and self._retained_overflow() is not None
        if message in held and message.qos == 0 and over:
            del self.retained[message.topic_name]  # NN-14.2
            self._forget(message, ("host", "host"))
            return
        raise Disagreement("host", f"nothing allows this drop: {notice}")


def _same(notice: Notice, expected: Notice) -> bool:
    if isinstance(notice, PeerErrorDetected) and isinstance(expected, PeerErrorDetected):
        return (notice.connection, notice.client_id, notice.reason_code) == (
            expected.connection,
            expected.client_id,
            expected.reason_code,
        )
    return notice == expected


def _victim(overflow: OverflowPolicy, waiting: list[Copy]) -> Copy:
    """Who gives way where the last one wants in; what has expired is gone already."""
    if overflow is OverflowPolicy.DROP_NEWEST:
        return waiting[-1]
    if overflow is OverflowPolicy.DROP_EXPIRED_QOS0_OLDEST:
        for copy in waiting:
            if copy.qos == 0:
                return copy
    return waiting[0]


def _differs(copy: Copy, delivery: Delivery) -> int:
    """In how many fields; there may be several copies of one message."""
    same_ids = copy.ids == tuple(sorted(delivery.subscription_ids))
    return (not same_ids) + (copy.retain != delivery.retain)


def _called_up_rule(connection: ModelConnection, replay: Replay, copy: Copy) -> str:
    """Why a retained message is owed."""
    if copy.is_will:
        return connection.cite("MQTT-3.1.2-15", "MQTT-3.1.2-17")
    if connection.protocol_version < 5:
        return connection.cite("MQTT-3.8.4-3" if replay.again else "MQTT-3.3.1-6")
    return "MQTT-3.3.1-10" if replay.subscriptions[-1].retain_handling == 1 else "MQTT-3.3.1-9"


def _drop_rule(reason: DropReason) -> str:
    """What a drop breaks that nothing allows, or a message that was not dropped."""
    if reason is DropReason.EXPIRED:
        return "MQTT-3.3.2-5"
    if reason is DropReason.TOO_LARGE:
        return "MQTT-3.1.2-25"
    return "MQTT-4.5.0-1"
