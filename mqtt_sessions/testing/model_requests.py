"""The reference model, part 4: SUBSCRIBE and UNSUBSCRIBE."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Any

from attrs import evolve

from mqtt_sessions.actions import SendSuback, SendUnsuback
from mqtt_sessions.events import SubscribeReceived, UnsubscribeReceived
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.testing.model_codes import FAILURES, check_all, check_suback, check_unsuback
from mqtt_sessions.testing.model_lifetime import Lifetime
from mqtt_sessions.testing.model_values import (
    ModelConnection,
    ModelSession,
    Owed,
    Replay,
    Undecided,
    valid_filter,
)

__all__ = ["Requests"]

SUCCESS, IN_USE = 0x00, 0x91


class Requests(Lifetime):
    """What clients ask for, and what of it they may get."""

    # ------------------------------------------------------------ SUBSCRIBE

    def _request_faults(
        self, connection: ModelConnection, packet_id: int, filters: list[str]
    ) -> list[int]:
        session = connection.session
        assert session is not None
        found = []
        if packet_id == 0 or not filters:
            found.append(0x82)  # 2.2.1, MQTT-3.8.3-2, MQTT-3.10.3-2
        most = session.limits.maximum_filters_per_packet
        if most is not None and len(filters) > most:
            found.append(0x97)
        return found

    def _answer_too_large(self, connection: ModelConnection, entries: int) -> bool:
        """MQTT-3.1.2-24: identifier, property length, and one byte for each code."""
        most = connection.maximum_packet_size
        body = 2 + 1 + entries
        length = 1 if body < 128 else 2 if body < 16_384 else 3
        return most is not None and 1 + length + body > most

    def _subscribe_received(self, connection: ModelConnection, event: SubscribeReceived) -> None:
        session = connection.session
        assert session is not None
        version, count = connection.protocol_version, len(event.subscriptions)
        faults = self._request_faults(
            connection, event.packet_id, [each.topic_filter for each in event.subscriptions]
        )
        for each in event.subscriptions:
            shared = each.topic_filter.startswith("$share/")
            number = each.subscription_id
            impossible = each.qos not in (0, 1, 2) or (
                version == 5
                and (
                    each.retain_handling not in (0, 1, 2)
                    or (number is not None and not 1 <= number <= 268_435_455)
                    or (shared and each.no_local)  # MQTT-3.8.3-4
                )
            )
            if impossible:
                faults += [0x82, 0x81]
            if shared and version == 5:
                faults.append(0x9E)
        if self._answer_too_large(connection, count):
            faults.append(0x95)
        if faults:
            self._peer_error(
                connection, tuple(faults), connection.cite("MQTT-4.13.1-1", "MQTT-4.8.0-1")
            )
            return
        self._answer_or_close(
            connection,
            event.packet_id,
            SendSuback,
            [(each.topic_filter, each) for each in event.subscriptions],
            lambda seen: self._grant_all(connection, session, event, seen),
        )

    def _answer_or_close(
        self,
        connection: ModelConnection,
        packet_id: int,
        kind: type,
        changes: list[tuple[str, Subscription | None]],
        answer: Callable[[Any], None],
    ) -> None:
        """What this library does with a request, or what others may do.

        An ill-formed filter is refused by its entry, or ends all [NN-5.3]; what stands before it
        may have been done [MQTT-3.8.4-5, MQTT-3.10.4-6]. An identifier that an inbound QoS 2
        exchange holds is refused, or ends all, or is no matter [NN-6.5]. Who gives no notices may
        do any of these; what it does first shows which it is.
        """
        session = connection.session
        assert session is not None
        in_use, entries = packet_id in session.inbound, len(changes)
        well_formed = all(valid_filter(name) for name, _ in changes)
        if self._notices_given and in_use:
            self._refuse_in_use(connection, kind, packet_id, entries)
            return
        if self._notices_given:
            answer(None)
            return

        def take(seen: SendSuback | SendUnsuback | None) -> None:
            told = () if seen is None else tuple(seen.reason_codes)
            if in_use and connection.protocol_version == 5 and told == (IN_USE,) * entries:
                self._refuse_in_use(connection, kind, packet_id, entries)
            else:
                answer(seen)

        def close() -> None:
            done = takewhile(lambda each: valid_filter(each[0]), () if well_formed else changes)
            for topic_filter, change in reversed(list(done)):
                session.perhaps[topic_filter] = change
            codes = (0x82, 0x81, IN_USE) if in_use else (0x82, 0x81)
            rule = "NN-6.5" if well_formed else connection.cite("MQTT-4.13.1-1", "MQTT-4.8.0-1")
            self._peer_error(connection, codes, rule)

        may_close = in_use or not well_formed
        self._undecided = Undecided(connection, take, close if may_close else None)

    def _grant_all(
        self,
        connection: ModelConnection,
        session: ModelSession,
        event: SubscribeReceived,
        seen: SendSuback | None,
    ) -> None:
        """MQTT-3.8.4-5: entry by entry, as if each were a packet; one SUBACK [MQTT-3.8.4-6].

        Who gives no notices may grant less than was asked for, or nothing [MQTT-3.8.4-7]: what the
        SUBACK says that was seen. For a filter that stands twice this library sends what is
        retained once, others twice.
        """
        version, free = connection.protocol_version, not self._notices_given
        allowed: list[tuple[int, ...]] = []
        most: list[int | None] = []
        called: dict[str, Replay] = {}
        told = () if seen is None else seen.reason_codes
        for number, wanted in enumerate(event.subscriptions):
            refusal = event.refusals[number] if event.refusals else None
            codes = self._entry_refusals(session, wanted.topic_filter, refusal)
            if codes:
                # MQTT-3.8.4-7: the entry leaves and alters nothing
                own = {5: tuple(codes), 4: (0x80,), 3: (0x00,)}[version]
                allowed.append((*own, *FAILURES[version]) if free else own)
                most.append(None)
                continue
            granted = min(wanted.qos, session.limits.maximum_granted_qos)
            lower = (*range(granted - 1, -1, -1), *FAILURES[version]) if free else ()
            allowed.append((granted, *lower))
            most.append(granted)
            code = told[number] if number < len(told) else granted
            if code in FAILURES[version] and free:
                continue
            # The options of a 3.x client are those that its host's decoder made up: none
            kept = evolve(wanted, qos=code if code in lower else granted)
            replay = self._grant(session, kept)
            if replay is not None:
                called[kept.topic_filter] = replay
            elif kept.topic_filter in called:
                called[kept.topic_filter].subscriptions[:] = [kept]
            if free and replay is not None:
                session.replays.append(replay)
        session.replays += [] if free else called.values()
        check = check_suback(connection, allowed, most)
        rule = connection.cite("MQTT-3.8.4-1")
        self._owe(connection, Owed(SendSuback, rule, event.packet_id, None, check))

    def _grant(self, session: ModelSession, kept: Subscription) -> Replay | None:
        """One entry of a SUBSCRIBE, or of the host's; what it calls up."""
        unclear = kept.topic_filter in session.perhaps
        new = self._subscribe(session, kept)
        if kept.retain_handling == 2 or (kept.retain_handling == 1 and not (new or unclear)):
            return None
        replay = self._replay(kept, new=new)
        replay.optional = unclear and kept.retain_handling == 1
        return replay

    def _entry_refusals(
        self, session: ModelSession, topic_filter: str, refusal: ReasonCode | None
    ) -> list[int]:
        limits = session.limits
        found: list[int] = [] if refusal is None else [refusal]
        levels, most = limits.maximum_filter_levels, limits.maximum_subscriptions
        too_deep = levels is not None and len(topic_filter.split("/")) > levels
        if not valid_filter(topic_filter) or too_deep:
            found.append(ReasonCode.TOPIC_FILTER_INVALID)
        if topic_filter.startswith("$share/"):
            found.append(ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED)
        new = topic_filter not in session.subscriptions
        if new and most is not None and len(session.subscriptions) >= most:
            found.append(ReasonCode.QUOTA_EXCEEDED)
        return found

    def _unsubscribe_received(
        self, connection: ModelConnection, event: UnsubscribeReceived
    ) -> None:
        session = connection.session
        assert session is not None
        count = len(event.topic_filters)
        faults = self._request_faults(connection, event.packet_id, list(event.topic_filters))
        if self._answer_too_large(connection, count) and connection.protocol_version == 5:
            faults.append(0x95)
        if faults:
            self._peer_error(
                connection, tuple(faults), connection.cite("MQTT-4.13.1-1", "MQTT-4.8.0-1")
            )
            return
        self._answer_or_close(
            connection,
            event.packet_id,
            SendUnsuback,
            [(each, None) for each in event.topic_filters],
            lambda seen: self._remove_all(connection, session, event),
        )

    def _remove_all(
        self, connection: ModelConnection, session: ModelSession, event: UnsubscribeReceived
    ) -> None:
        """Entry by entry [MQTT-3.10.4-6]; one UNSUBACK [MQTT-3.10.4-4]."""
        allowed: list[tuple[int, ...]] = []
        for number, topic_filter in enumerate(event.topic_filters):
            refusal = event.refusals[number] if event.refusals else None
            unclear = topic_filter in session.perhaps
            if refusal is not None:
                allowed.append((refusal,))
            elif unclear:
                self._unsubscribe(session, topic_filter)
                allowed.append((SUCCESS, ReasonCode.NO_SUBSCRIPTION_EXISTED))
            elif self._unsubscribe(session, topic_filter):
                allowed.append((SUCCESS,))
            elif not (self._notices_given or valid_filter(topic_filter)):
                allowed.append(
                    (ReasonCode.NO_SUBSCRIPTION_EXISTED, ReasonCode.TOPIC_FILTER_INVALID)
                )
            else:
                allowed.append((ReasonCode.NO_SUBSCRIPTION_EXISTED,))
        rule = connection.cite("MQTT-3.10.4-4")
        check = check_unsuback(connection, allowed)
        self._owe(connection, Owed(SendUnsuback, rule, event.packet_id, None, check))

    def _refuse_in_use(
        self, connection: ModelConnection, answer: type, packet_id: int, entries: int
    ) -> None:
        """NN-6.5: an identifier serves one command at a time; the exchange goes on."""
        if connection.protocol_version < 5:
            self._peer_error(connection, (IN_USE,), "NN-6.5")
        elif entries == 0:
            self._owe(connection, Owed(answer, "NN-6.5", packet_id, (IN_USE,)))
        else:
            check = check_all(IN_USE, entries, "NN-6.5")
            self._owe(connection, Owed(answer, "NN-6.5", packet_id, None, check))
