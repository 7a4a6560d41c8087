"""The router between sessions: subscriptions, distribution, retained messages, wills.

Spec: MQTT 5.0 §3.3.4, §4.5, §4.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from attrs import evolve
from sortedcontainers import SortedList

from mqtt_sessions import inbound, outbound
from mqtt_sessions.actions import SendPuback, SendPublish
from mqtt_sessions.connection import Link
from mqtt_sessions.deadlines import Timer
from mqtt_sessions.events import (
    LimitsChanged,
    MessagePublished,
    PublishReceived,
)
from mqtt_sessions.messages import Delivery, Message
from mqtt_sessions.notices import (
    FilterAdded,
    FilterRemoved,
    WillPublished,
)
from mqtt_sessions.packet_ids import MAX_PACKET_ID, next_packet_id
from mqtt_sessions.policy import ExpiryPolicy, OverlapPolicy, ServerOptions, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.retained import Replay, Retained
from mqtt_sessions.retaining import Retaining, not_local
from mqtt_sessions.snapshots import SessionContents
from mqtt_sessions.state import (
    NO_LOCAL,
    QOS,
    RETAIN_AS_PUBLISHED,
    Overlap,
    Route,
    SessionState,
)
from mqtt_sessions.subscribing import Granted
from mqtt_sessions.topic_tree import Bucket, TopicTree
from mqtt_sessions.turn import SizeOf, Turn
from mqtt_sessions.wills import WillFanout

__all__ = ["Router"]


class Router(Retaining):
    """An engine whose sessions get what the others publish."""

    def __init__(
        self,
        policy: ExpiryPolicy,
        limits: SessionLimits,
        options: ServerOptions,
        size_of: SizeOf | None,
    ) -> None:
        super().__init__(policy, limits, options, size_of)
        self._tree = TopicTree()
        self._order: SortedList | None = None

    # ------------------------------------------------------------ publishing

    def _route_published(
        self, session: SessionState, link: Link, event: PublishReceived, turn: Turn
    ) -> None:
        message = event.message
        client_id = session.client_id
        self._arrive(message, turn)
        lifetime, told = session.settings.expiry_of(message)
        # MQTT-3.3.1-8: without RETAIN nothing is stored, altered or erased
        if message.retain and not self._retain(message, client_id, lifetime, told, turn):
            code = ReasonCode.QUOTA_EXCEEDED
        else:
            code = self._distribute(message, client_id, session, lifetime, told, turn)
        packet_id = event.packet_id
        if not message.qos or packet_id is None:
            return
        if code is ReasonCode.QUOTA_EXCEEDED:
            inbound.refuse(link, message, packet_id, code, turn)
        elif message.qos == 1:
            turn.actions.append(SendPuback(link.connection, packet_id, code))  # MQTT-4.3.2-4
        else:
            inbound.take(session, link, packet_id, code, turn)

    def _arrive(self, message: Message, turn: Turn) -> None:
        """Give a message the instant of its arrival, by which it is told from others of its topic.

        Many arrive at one reading of the clock. A retained one comes behind all before it, by the
        least step that a float can take, so that it is known which of two is the newer [NN-14.6].
        """
        at, latest = turn.now, self._arrived_at
        if at <= latest:
            at = math.nextafter(latest, math.inf) if message.retain else latest
        self._arrived_at = at
        if turn.recorder is not None:
            turn.recorder.begin_publish()

    def _on_host_published(self, event: MessagePublished, turn: Turn) -> None:
        lifetime, told = self._settings.expiry_of(event.message)
        self._publish_anyway(event.message, event.publisher, lifetime, told, turn)

    def _publish_anyway(
        self,
        message: Message,
        publisher: str | None,
        lifetime: float | None,
        told: int | None,
        turn: Turn,
    ) -> None:
        """Publish for somebody who cannot be refused: if need be it is not retained."""
        self._arrive(message, turn)
        if message.retain:
            self._retain_anyway(message, publisher, lifetime, told, turn)
        own = None if publisher is None else self._sessions.get(publisher)
        self._distribute(message, publisher, own, lifetime, told, turn)

    def _publish_wills(self, turn: Turn, limit: int | None = None) -> int:
        """Publish the wills that have come due in this call [NN-4.5]; the units of work used.

        Where units are limited, receivers beyond the limit stay due.
        """
        if turn.recorder is not None:
            limit = None  # its removal and all its copies are one batch
        used = 0
        while turn.wills:
            wills, turn.wills = turn.wills, []
            for client_id, message, lifetime in wills:
                turn.notices.append(WillPublished(client_id, message))
                fanout = self._retain_and_match_will(client_id, message, lifetime, turn)
                left = None if limit is None else max(0, limit - used)
                used += max(1, self._hand_out(fanout, turn, left))
                if fanout.remaining:
                    self._fanouts.append(fanout)
                    # what fired it was the first of all that is due, and so is what is left
                    turn.deadlines.arm(fanout, turn.firing_at, 0.0)
        return used

    def _retain_and_match_will(
        self, client_id: str, message: Message, lifetime: float | None, turn: Turn
    ) -> WillFanout:
        """Retain a will if it asks for that, and find its receivers.

        *Cost* that of copying a dict of the receivers, where one filter matches.
        """
        told = message.message_expiry_interval
        self._arrive(message, turn)
        if message.retain:  # MQTT-3.1.2-15, else MQTT-3.1.2-14
            self._retain_anyway(message, client_id, lifetime, told, turn)
        expires_at = None if lifetime is None else turn.now + lifetime  # NN-4.6
        fanout = WillFanout(client_id, message, self._arrived_at, expires_at)
        own = self._sessions.get(client_id)
        buckets = self._tree.match(message.topic_name)
        if len(buckets) == 1 and not isinstance(buckets[0], Route):
            fanout.remaining = dict(buckets[0])
        else:
            for route in self._receivers(buckets, own) if buckets else ():
                before = fanout.remaining.get(route.session)
                if before is None:
                    fanout.remaining[route.session] = route
                elif isinstance(before, list):
                    before.append(route)
                else:
                    fanout.remaining[route.session] = [before, route]
        if own is not None:
            only = fanout.remaining.get(own)
            if isinstance(only, Route) and only.options & NO_LOCAL:
                del fanout.remaining[own]
                delivery = self._make_will(fanout, only.options)
                turn.notices.append(not_local(own, delivery))  # NN-4.9
        return fanout

    def _make_will(self, fanout: WillFanout, options: int | tuple[int, ...]) -> Delivery:
        delivery = fanout.made.get(options)
        if delivery is None:
            message = fanout.message
            told = message.message_expiry_interval  # a default is never shown for wills
            delivery = fanout.made[options] = self._make(
                message, options, fanout.received_at, fanout.expires_at, told, fanout.client_id
            )
        return delivery

    def _hand_out(self, fanout: WillFanout, turn: Turn, limit: int | None) -> int:
        """Hand a will to its next receivers; the units of work used."""
        used = 0
        while fanout.remaining and (limit is None or used < limit):
            used += self._hand_to(fanout, *fanout.remaining.popitem(), turn)
        return used

    def _hand_to(
        self,
        fanout: WillFanout,
        session: SessionState,
        routes: Route | Overlap | list[Route | Overlap],
        turn: Turn,
    ) -> int:
        """Hand a will to one receiver; the copies.

        What else is due for the receiver came due after the will and has to wait for its turn.
        """
        for route in routes if isinstance(routes, list) else (routes,):
            self._offer(session, self._make_will(fanout, route.options), turn)
        if not fanout.remaining and fanout.lane is not None:
            self._fanouts.remove(fanout)
            turn.deadlines.disarm(fanout)
        return len(routes) if isinstance(routes, list) else 1

    def _catch_up(self, session: SessionState, turn: Turn) -> None:
        for fanout in list(self._fanouts):
            routes = fanout.remaining.pop(session, None)
            if routes is not None:
                self._hand_to(fanout, session, routes, turn)

    def _offer(self, session: SessionState, delivery: Delivery, turn: Turn) -> None:
        """Offer to one session, whose replay of retained messages may be under way."""
        start = len(turn.actions)
        turn.accepted += 1
        replay = self._replays.get(session) if self._replays else None
        if replay is not None:
            replay.note_offered(delivery, self._retained)
        outbound.offer(session, delivery, turn)
        self._note_sent(session, turn, start)

    def _distribute(
        self,
        message: Message,
        publisher: str | None,
        own: SessionState | None,
        lifetime: float | None,
        told: int | None,
        turn: Turn,
    ) -> ReasonCode:
        """Offer the message to each session with a matching subscription.

        *Cost* O(receivers).

        Spec: MQTT 5.0 §3.3.4 [MQTT-3.3.4-2] to [MQTT-3.3.4-5], §4.5 [MQTT-4.5.0-1].
        """
        buckets = self._tree.match(message.topic_name)
        if not buckets:
            return ReasonCode.NO_MATCHING_SUBSCRIBERS
        now, arrived_at, recorder = turn.now, self._arrived_at, turn.recorder
        expires_at = None if lifetime is None else now + lifetime  # NN-9.5: from its arrival
        made: dict[int | tuple[int, ...], Delivery] = {}
        late: list[tuple[SessionState, Delivery]] = []
        beside, append = self._replays or self._fanouts, turn.actions.append
        long = self._makes_several(buckets) or len(message.payload) >= outbound.HUGE
        before, accepted = turn.accepted, 0
        options_before: int | tuple[int, ...] = -1
        for route in self._receivers(buckets, own):
            session, options = route.session, route.options
            if options != options_before:
                options_before = options
                delivery = made.get(options) or self._make(
                    message, options, arrived_at, expires_at, told, publisher
                )
                made[options] = delivery
                plain = delivery.qos > 0 and not (delivery.retain or long)
            if session is own and isinstance(options, int) and options & NO_LOCAL:
                turn.notices.append(not_local(route.session, delivery))  # MQTT-3.8.3-3
                continue
            link = session.link
            if (session.at if link is None else link.due) <= now:
                late.append((session, delivery))
                continue
            if beside:
                self._catch_up(session, turn)
                self._offer(session, delivery, turn)
                continue
            accepted += 1
            queue, in_flight = session.queue, session.in_flight
            if (
                link is None
                or queue is None
                or queue.items
                or in_flight is None
                or not link.direct
                or len(in_flight) >= link.window
                or not plain
            ):
                outbound.offer(session, delivery, turn)
                continue
            # What `offer` would come to, spelled out where nothing stands in the way.
            queue.accepted += 1
            packet_id = session.last_packet_id + 1
            if packet_id > MAX_PACKET_ID or packet_id in in_flight:
                packet_id = next_packet_id(session.last_packet_id, in_flight)
            session.last_packet_id = packet_id
            in_flight[packet_id] = delivery
            append(SendPublish(link.connection, delivery, packet_id, False, told))
            if recorder is not None and session.rows is not None:
                recorder.sent_now.append((session.rows, packet_id, delivery))
        if recorder is not None:
            recorder.note_sent()
        turn.accepted += accepted
        if late:
            self._offer_late(late, turn)
        ended = late and turn.accepted == before  # all of them
        return ReasonCode.NO_MATCHING_SUBSCRIBERS if ended else ReasonCode.SUCCESS

    def _offer_late(self, late: list[tuple[SessionState, Delivery]], turn: Turn) -> None:
        """Law 5: what is due for a receiver comes first, and may end it.

        In the order in which it came due, whoever subscribed first.
        """
        late.sort(key=lambda each: (each[0].soonest_at, each[0].client_id))
        for session, delivery in late:
            self._settle(session, turn)
            if self._sessions.get(session.client_id) is session:
                self._offer(session, delivery, turn)

    def _receivers(
        self, buckets: list[Bucket], own: SessionState | None
    ) -> Iterable[Route | Overlap]:
        """The subscriptions that match; several of one session are merged if the host wants it.

        No Local matches are left out first [NN-12.4].
        """
        if len(buckets) == 1:
            bucket = buckets[0]
            return (bucket,) if isinstance(bucket, Route) else bucket.values()
        each: list[Route] = []
        not_local: Route | None = None
        reaches_own = False
        for bucket in buckets:
            for route in (bucket,) if isinstance(bucket, Route) else bucket.values():
                if route.session is not own:
                    each.append(route)
                elif route.options & NO_LOCAL:
                    not_local = route
                else:
                    each.append(route)
                    reaches_own = True
        if not_local is not None and not reaches_own:
            each.append(not_local)  # the caller tells that it was left out
        if self._settings.options.overlap is OverlapPolicy.EACH:
            return each
        by_session: dict[SessionState, list[Route]] = {}
        for route in each:
            by_session.setdefault(route.session, []).append(route)
        return [
            routes[0] if len(routes) == 1 else Overlap(routes) for routes in by_session.values()
        ]

    def _makes_several(self, buckets: list[Bucket]) -> bool:
        """Whether a session may get several copies, whose rows are then made one by one."""
        return len(buckets) > 1 and self._settings.options.overlap is OverlapPolicy.EACH

    def _make(
        self,
        message: Message,
        options: int | tuple[int, ...],
        received_at: float,
        expires_at: float | None,
        told: int | None,
        publisher: str | None,
    ) -> Delivery:
        """One delivery for all receivers with the same options [NN-7.1].

        Spec: MQTT 5.0 §3.3.1.3 [MQTT-3.3.1-12], [MQTT-3.3.1-13], §3.3.4 [MQTT-3.3.4-4],
        §3.8.4 [MQTT-3.8.4-8].
        """
        if isinstance(options, int):
            flags, ids = options, Route.subscription_ids(options)
        else:
            flags, ids = options[0], options[1:]
        qos = flags & QOS
        if qos > message.qos and not self._settings.options.upgrade_qos:
            qos = message.qos
        retain = message.retain and bool(flags & RETAIN_AS_PUBLISHED)
        if retain and not self._settings.options.retain_available:
            retain = False  # NN-14.4
        return Delivery(
            message,
            qos,
            retain,
            ids,
            received_at,
            expires_at,
            told,
            publisher,
        )

    # ------------------------------------------------------------ subscriptions

    def _subscribed(self, session: SessionState, granted: list[Granted], turn: Turn) -> None:
        replay = self._replays.get(session)
        wants_retained = self._settings.options.retain_available and len(self._retained) > 0
        for made in granted:
            route = made.route
            if turn.recorder is not None and session.rows is not None:
                turn.recorder.subscribed(session.rows, route)
            if made.is_new and self._tree.add(route):
                turn.notices.append(FilterAdded(route.topic_filter))
            handling = made.retain_handling  # MQTT-3.3.1-9 to MQTT-3.3.1-11, MQTT-3.8.4-4
            if wants_retained and (handling == 0 or (handling == 1 and made.is_new)):
                if replay is None:
                    replay = self._replays[session] = Replay(session)
                replay.begin(route.topic_filter)
                if turn.recorder is not None:
                    turn.recorder.touch_replay(session)
        link = session.link
        if replay is not None and link is not None:
            link.replaying = True
            link.smooth()
            batch = session.settings.limits.retained_replay_batch
            self._replay(replay, link, batch, turn)

    def _unsubscribed(self, session: SessionState, removed: list[Route], turn: Turn) -> None:
        replay = self._replays.get(session)
        for route in removed:  # MQTT-3.10.4-2
            if self._tree.remove(route):
                turn.notices.append(FilterRemoved(route.topic_filter))
            if turn.recorder is not None and session.rows is not None:
                turn.recorder.unsubscribed(session.rows, route.topic_filter)
            if replay is not None:
                replay.end(route.topic_filter)
                if turn.recorder is not None:
                    turn.recorder.touch_replay(session)

    # ------------------------------------------------------------ sessions and time

    def _contents(self, session: SessionState) -> SessionContents:
        contents = super()._contents(session)
        replay = self._replays.get(session)
        return contents if replay is None else evolve(contents, replay=replay.snapshot())

    def _created(self, session: SessionState) -> None:
        if self._order is not None:
            self._order.add(session.client_id)

    def _forget(self, session: SessionState, turn: Turn) -> None:
        if self._order is not None:
            self._order.discard(session.client_id)
        replay = self._replays.get(session) if self._replays else None
        if replay is not None:
            self._end_replay(replay, turn)
        routes = session.routes
        if routes is not None:
            for route in session.all_routes():
                if self._tree.remove(route):
                    turn.notices.append(FilterRemoved(route.topic_filter))

    def _detach(self, link: Link, turn: Turn) -> None:
        session = link.session
        replay = None if session is None else self._replays.get(session)
        if replay is not None:
            turn.deadlines.disarm(replay)  # it goes on with the next connection
        super()._detach(link, turn)

    def _fire(self, timer: Timer, turn: Turn, limit: int | None) -> int:
        if isinstance(timer, Retained):
            self._expire_retained(timer, turn)
            return 1
        if isinstance(timer, WillFanout):
            return self._hand_out(timer, turn, limit)
        if isinstance(timer, Replay):
            turn.deadlines.disarm(timer)
            session = timer.session
            assert session.link is not None
            batch = session.settings.limits.retained_replay_batch
            if limit is not None:
                batch = min(batch, limit)
            sent = self._replay(timer, session.link, batch, turn)
            return max(1, sent, (10 * batch - timer.looks) // 10)
        return super()._fire(timer, turn, limit)

    def _on_limits(self, event: LimitsChanged, turn: Turn) -> None:
        self._settings.limits = event.limits
        for session in self._sessions.values():
            if not session.settings.own_limits:
                session.settings.limits = event.limits

    _HANDLERS: ClassVar[dict[type, Callable[[Any, Any, Turn], None]]] = {
        **Retaining._HANDLERS,
        MessagePublished: _on_host_published,
        LimitsChanged: _on_limits,
    }
