"""The reference model, part 6: retained messages that a SUBSCRIBE called up.

They are sent as the window opens, from what is retained then; so what is still owed, and to which
of several subscriptions a message is due, is looked at when it comes.
"""

from __future__ import annotations

from mqtt_sessions.actions import SendPublish
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.testing.model_packets import Packets
from mqtt_sessions.testing.model_values import (
    Copy,
    ModelConnection,
    ModelSession,
    Replay,
    Retained,
    is_order_open,
    matches,
)

__all__ = [
    "Complaint",
    "Replaying",
    "is_message",
    "is_superseded",
    "note_newest",
    "settle_rivals",
]

Complaint = tuple[str, str]
"""A rule, and what is wrong."""


class Replaying(Packets):
    """Which retained messages a PUBLISH may be, and which are owed."""

    def _is_owed(self, session: ModelSession, replay: Replay | None, copy: Copy) -> bool:
        """Whether a SUBSCRIBE called up just this, and nothing has changed since."""
        if replay is None:
            return True
        topic_name = copy.message.topic_name
        entry, values = self.retained.get(topic_name), replay.pending.get(topic_name, [])
        if replay.optional or entry is None or entry.doubtful or entry.rivals:
            return False
        if len(values) != 1 or entry.copy is not values[0] or copy.serial != entry.copy.serial:
            return False
        own = copy.publisher == session.client_id
        if own and any(each.no_local for each in replay.subscriptions):
            return False
        if topic_name in replay.excused or is_superseded(replay, copy):
            return False
        again = replay.resent.get(topic_name)
        if again is not None and (copy.serial <= again.serial or is_order_open(copy, again)):
            return False  # NN-14.6: the live message may have come last
        connection = session.connection
        for each in replay.subscriptions:
            if connection is not None and self._too_large(
                connection, self._as_called_up(entry.copy, each)
            ):
                return False  # MQTT-3.1.2-25
        # NN-14.2: one of QoS 0 may be discarded at any time, and who gives no notices does not tell
        return self._notices_given or copy.message.qos > 0

    def _called_up(self, replay: Replay, session: ModelSession, action: SendPublish) -> list[Copy]:
        """Retained messages that this PUBLISH may be; as they would be sent [NN-12.6, NN-14.5]."""
        topic_name = action.delivery.message.topic_name
        values = list(replay.pending.get(topic_name, ()))
        if any(matches(each.topic_filter, topic_name) for each in replay.subscriptions):
            entry = self.retained.get(topic_name)
            if entry is not None:
                newer = (entry.copy, *entry.rivals)
                values += [
                    each
                    for each in newer
                    if each not in values
                    and (topic_name in replay.pending or each.serial > replay.serial)
                ]
        found: list[Copy] = []
        for value in values:
            if not is_message(action, value) or (value.expires_at or self.now + 1) <= self.now:
                continue
            for subscription in replay.subscriptions:
                if subscription.no_local and value.publisher == session.client_id:
                    continue
                found.append(self._as_called_up(value, subscription))
        return found

    def _of_twins(self, replay: Replay, action: SendPublish) -> list[tuple[Copy, Replay | None]]:
        """What a replay is credited with may have been its twin's; then this is its own."""
        found: list[tuple[Copy, Replay | None]] = []
        for topic_name, twin in replay.twins:
            if topic_name != action.delivery.message.topic_name:
                continue
            entry = self.retained.get(topic_name)
            values = twin.pending.get(topic_name, [])
            for value in values if entry is None else [*values, entry.copy]:
                copies = [self._as_called_up(value, each) for each in replay.subscriptions]
                found += [(copy, twin) for copy in copies if is_message(action, copy)]
        return found

    def _as_called_up(self, value: Copy, subscription: Subscription) -> Copy:
        """A retained message as a SUBSCRIBE calls it up [NN-12.6, NN-14.5]."""
        qos = min(value.message.qos, subscription.qos)  # MQTT-3.8.4-8, NN-14.1
        number = subscription.subscription_id
        return Copy(
            message=value.message,
            qos=subscription.qos if self.options.upgrade_qos else qos,
            retain=True,  # NN-12.6, 3.1.1 MQTT-3.3.1-8
            ids=() if number is None else (number,),
            received_at=value.received_at,
            expires_at=value.expires_at,
            told=value.told,
            publisher=value.publisher,
            serial=value.serial,
            step=value.step,
            instant=value.instant,
            is_retained=True,
            filters=[subscription.topic_filter],
        )

    def _superseded(
        self, connection: ModelConnection, replay: Replay, copy: Copy, action: SendPublish
    ) -> Complaint | None:
        newest = replay.superseded.get(copy.message.topic_name)
        if copy.serial in replay.sent or (newest is not None and newest.serial == copy.serial):
            if is_superseded(replay, copy):
                return "NN-12.3", f"it was sent already: {action}"
        elif self._notices_given and is_superseded(replay, copy):
            return "NN-14.6", f"a newer live message of the topic was sent already: {action}"
        return None  # NN-14.6: a choice, and others may make another one


def is_message(action: SendPublish, copy: Copy) -> bool:
    """Whether a PUBLISH carries this message: by topic and payload."""
    message = action.delivery.message
    return message.topic_name == copy.message.topic_name and message.payload == copy.message.payload


def is_superseded(replay: Replay, copy: Copy) -> bool:
    """Whether a live message that was sent since is newer, or the same one [NN-14.6].

    The same one that came before the SUBSCRIBE is due twice: as a live message, and called up.
    """
    if copy.serial in replay.sent:
        return True
    newest = replay.superseded.get(copy.message.topic_name)
    if newest is None or is_order_open(copy, newest):
        return False
    if copy.serial == newest.serial:
        return copy.serial > replay.serial
    return copy.serial < newest.serial


def note_newest(known: dict[str, Copy], copy: Copy) -> None:
    """Of a topic's messages that were sent the newest counts."""
    newest = known.get(copy.message.topic_name)
    if newest is None or newest.serial < copy.serial:
        known[copy.message.topic_name] = copy


def settle_rivals(entry: Retained, copy: Copy) -> None:
    """What was sent is the one of the two that were set at one instant."""
    for each in (entry.copy, *entry.rivals):
        if each.serial == copy.serial:
            entry.copy, entry.rivals = each, []
            return
