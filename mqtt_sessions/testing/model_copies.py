"""The reference model, part 8: what a PUBLISH says, and how many copies of a message there are."""

from __future__ import annotations

from mqtt_sessions.actions import SendPublish
from mqtt_sessions.messages import Message
from mqtt_sessions.policy import OverlapPolicy
from mqtt_sessions.testing.model_citations import Citing
from mqtt_sessions.testing.model_replays import Complaint
from mqtt_sessions.testing.model_values import (
    Copy,
    Disagreement,
    Exchange,
    ModelConnection,
    ModelSession,
    matches,
)

__all__ = ["Copies"]

PROPERTIES = (
    ("payload_format_indicator", "MQTT-3.3.2-4"),
    ("response_topic", "MQTT-3.3.2-15"),
    ("correlation_data", "MQTT-3.3.2-16"),
    ("user_properties", "MQTT-3.3.2-17"),
    ("content_type", "MQTT-3.3.2-20"),
)


class Copies(Citing):
    """Whether a PUBLISH is right for the copy that it stands for."""

    # ------------------------------------------------------------ what a PUBLISH says

    def _compare(
        self,
        connection: ModelConnection,
        action: SendPublish,
        copy: Copy,
        again: Exchange | None = None,
    ) -> Complaint | None:
        """Each field against the copy, under the rule of the field."""
        delivery = action.delivery
        if delivery.qos != copy.qos:
            rule = connection.cite("MQTT-3.8.4-8", "MQTT-3.8.4-6")
            if delivery.qos < copy.qos and len(copy.filters) > 1:
                rule = connection.cite("MQTT-3.3.4-2", "MQTT-3.3.5-1")
            return rule, f"the QoS is {copy.qos}: {action}"
        # NN-2.8: a 3.x client gets live messages with RETAIN 0
        retain = copy.retain and (copy.is_retained or connection.protocol_version == 5)
        open_retain = copy.mixed and not self._notices_given  # NN-12.4
        same_as_before = again is not None and delivery.retain == again.retain
        if delivery.retain != retain and not (same_as_before or open_retain):
            return self._retain_rule(connection, copy), f"RETAIN is {int(retain)}: {action}"
        if self._too_large(connection, copy):
            return "MQTT-3.1.2-24", f"larger than {connection.maximum_packet_size}: {action}"
        if connection.protocol_version < 5:
            return None  # no properties
        given = tuple(sorted(delivery.subscription_ids))
        if given not in self._right_ids(connection, copy):
            rule = "MQTT-3.3.4-5" if len(copy.ids) == 1 else "MQTT-3.3.4-4"
            return rule, f"the Subscription Identifiers are {copy.ids}: {action}"
        for name, rule in PROPERTIES:
            value = getattr(copy.message, name)
            if name == "user_properties" and _is_reordered(delivery.message, copy.message):
                return "MQTT-3.3.2-18", f"{name} is {value!r}: {action}"
            if getattr(delivery.message, name) != value:
                return rule, f"{name} is {value!r}: {action}"
        left = copy.left(self.now)
        allowed: list[int | None] = [left]
        if again is not None and left is not None:
            allowed = [max(left, 1), again.told]  # NN-8.6
            if copy.told == 0:
                allowed.append(0)
        if left is not None and not self._notices_given:
            allowed.append(max(left - 1, 0))  # NN-9.4: which way it is rounded is free
        if action.message_expiry_interval not in allowed:
            return "MQTT-3.3.2-6", f"the interval is {allowed[0]}: {action}"
        return None

    def _right_ids(self, connection: ModelConnection, copy: Copy) -> list[tuple[int, ...]]:
        """Those of the subscriptions of then, or the current ones [NN-8.5]."""
        session = connection.session
        assert session is not None
        own = copy.publisher == session.client_id
        matching = [
            each
            for name, each in session.subscriptions.items()
            if matches(name, copy.message.topic_name) and not (own and each.no_local)
        ]
        its = [each for each in matching if each.topic_filter in copy.filters]
        found = [copy.ids]
        each_its_own = self.options.overlap is OverlapPolicy.EACH
        if copy.overlap is not None:
            each_its_own = copy is not copy.overlap.merged
        for some in (its, [] if its and each_its_own else matching):
            ids = sorted(each.subscription_id for each in some if each.subscription_id is not None)
            found.append(tuple(ids))
        if self._notices_given:
            return found
        # 3.3.4: that equal ones repeat is not a numbered statement
        return found + [tuple(sorted(set(ids))) for ids in found]

    def _retain_rule(self, connection: ModelConnection, copy: Copy) -> str:
        if copy.is_retained:
            return connection.cite("NN-12.6", "MQTT-3.3.1-8")
        if copy.mixed:
            return "NN-12.4"
        return connection.cite("MQTT-3.3.1-13" if copy.retain else "MQTT-3.3.1-12", "MQTT-3.3.1-9")

    # ------------------------------------------------------------ one copy, or one for each match

    def _note_overlap(
        self, connection: ModelConnection, session: ModelSession, copy: Copy, action: SendPublish
    ) -> None:
        """NN-12.3: what was sent shows whether it is one copy for all matches, or one for each.

        It may look like either, and then only a second one shows it.
        """
        overlap = copy.overlap
        if overlap is None:
            return
        if not overlap.sent:
            session.overlaps.append(overlap)
            overlap.sent_on = connection
            overlap.is_whole = self._compare(connection, action, overlap.merged) is None
        overlap.sent.append(copy)
        left = [each for each in overlap.singles if each in session.queue]
        if copy is overlap.merged:
            alike = [each for each in left if self._compare(connection, action, each) is None]
            for each in alike[:1] or left:
                session.queue.remove(each)
        elif overlap.merged in session.queue:
            session.queue.remove(overlap.merged)

    def _settle_overlaps(self, connection: ModelConnection, session: ModelSession) -> None:
        """All that could be sent was: one copy at the highest QoS has come at least."""
        for overlap in session.overlaps:
            merged, singles = overlap.merged, overlap.singles
            may_be_gone = overlap.sent_on is not connection or merged.doubtful or merged.fleeting
            for each in singles:
                dropped = each not in session.queue and each not in overlap.sent
                unwanted = each.must_go is not None or not each.filters
                too_large = self._too_large(connection, each)
                may_be_gone = may_be_gone or dropped or unwanted or too_large
            if may_be_gone or overlap.is_whole:
                continue
            highest = max(each.qos for each in overlap.sent)
            if highest < merged.qos:
                rule = connection.cite("MQTT-3.3.4-2", "MQTT-3.3.5-1")
                raise Disagreement(rule, f"{merged.message} came at QoS {highest} only")
            if len(overlap.sent) == 1:
                detail = f"the one copy of {merged.message} is without all of {merged.ids}"
                raise Disagreement("MQTT-3.3.4-4", detail)
        session.overlaps.clear()


def _is_reordered(one: Message, other: Message) -> bool:
    """Whether two have the same user properties in another order."""
    given, wanted = one.user_properties, other.user_properties
    return given != wanted and sorted(given) == sorted(wanted)
