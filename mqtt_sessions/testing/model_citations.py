"""The reference model, part 7: which statement a PUBLISH breaks that nothing allows."""

from __future__ import annotations

from mqtt_sessions.actions import SendPublish
from mqtt_sessions.messages import Message
from mqtt_sessions.notices import DropReason
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.testing.model_replays import Complaint, Replaying, is_message
from mqtt_sessions.testing.model_values import (
    AWAITING_PUBCOMP,
    Copy,
    ModelConnection,
    ModelSession,
    matches,
)

__all__ = ["Citing"]


class Citing(Replaying):
    """Names the rule, once it is clear that there is one."""

    def _is_sendable(self, connection: ModelConnection, copy: Copy) -> bool:
        closed_at = connection.closed_at
        if closed_at is not None and closed_at < copy.instant:
            return False  # it came when the connection had ended
        if copy.must_go is DropReason.SESSION_ENDED:
            # Two ends at one instant: what came in that instant may have gone out before
            return connection.closed_in == self.step and copy.step == self.step
        return copy.must_go is None

    def _why_not(
        self, connection: ModelConnection, session: ModelSession, action: SendPublish
    ) -> Complaint:
        """The rule that a PUBLISH breaks which stands for no waiting copy."""
        topic_name = action.delivery.message.topic_name
        for exchange in session.in_flight:
            if is_message(action, exchange.copy):
                if exchange.phase == AWAITING_PUBCOMP:
                    rule = connection.cite("MQTT-4.3.3-6", "MQTT-4.3.3-1")
                    return rule, f"the receiver has it: {action}"
                return connection.cite("MQTT-4.4.0-1"), f"it is in flight already: {action}"
        for copy in session.queue:
            if is_message(action, copy) and copy.must_go is not None:
                rule = {DropReason.EXPIRED: "MQTT-3.3.2-5"}.get(copy.must_go, "host")
                return rule, f"it was dropped as {copy.must_go.value}: {action}"
            if is_message(action, copy) and not self._is_sendable(connection, copy):
                return "host", f"the connection had ended when it came: {action}"
        for each in session.replays:
            for copy in each.pending.get(topic_name, ()):
                if not is_message(action, copy):
                    continue
                own = copy.publisher == session.client_id
                if own and all(one.no_local for one in each.subscriptions):
                    return "NN-14.5", f"its own message, under No Local: {action}"
                return "MQTT-3.3.2-5", f"it has expired: {action}"
        return self._why_never(connection, session, action)

    def _why_never(
        self, connection: ModelConnection, session: ModelSession, action: SendPublish
    ) -> Complaint:
        """The same, where it is not even known to be on its way."""
        message = action.delivery.message
        known = (message.topic_name, message.payload)
        fate = session.past.get(known)
        wanted = [
            each
            for each in session.subscriptions.values()
            if matches(each.topic_filter, message.topic_name)
        ]
        if wanted and (fate is None or _is_called_up(connection, action, wanted)):
            rule = self._why_not_called_up(connection, action, wanted)
            if rule is not None:
                return rule, f"no SUBSCRIBE calls it up: {action}"
        if fate == "own will":
            return "NN-4.9", f"its own will, under No Local: {action}"
        if fate == "no local":
            return "MQTT-3.8.3-3", f"its own message, under No Local: {action}"
        if fate == "expired":
            return "MQTT-3.3.2-5", f"it has expired: {action}"
        if fate == "dropped":
            return "host", f"it was told to be dropped: {action}"
        if known in self._withheld:
            return self._withheld[known], f"it was not to be handed on: {action}"
        if fate is not None:
            return "NN-12.3", f"it was {fate} already: {action}"
        if not wanted:
            return self._why_unwanted(connection, session, message, action)
        return "NN-7.1", f"nobody published it: {action}"

    def _why_unwanted(
        self,
        connection: ModelConnection,
        session: ModelSession,
        message: Message,
        action: SendPublish,
    ) -> Complaint:
        """None of its filters matches."""
        if any(matches(each, message.topic_name) for each in session.unsubscribed):
            return connection.cite("MQTT-3.10.4-2"), f"it has unsubscribed: {action}"
        hidden = message.topic_name.removeprefix("$")
        if hidden != message.topic_name and any(
            each[0] in "+#" and matches(each, hidden) for each in session.subscriptions
        ):
            return connection.cite("MQTT-4.7.2-1"), f"a wildcard does not match: {action}"
        return connection.cite("MQTT-3.3.2-3"), f"no filter matches: {action}"

    def _why_not_called_up(
        self, connection: ModelConnection, action: SendPublish, wanted: list[Subscription]
    ) -> str | None:
        """A message that was published once, and that its subscriptions do not call up (again)."""
        message = action.delivery.message
        entry = self.retained.get(message.topic_name)
        held = [] if entry is None else [entry.copy, *entry.rivals]
        if not any(is_message(action, copy) for copy in held):
            reason = self._unretained.get((message.topic_name, message.payload))
            return None if reason is None else connection.cite(*reason)
        if connection.protocol_version == 5:
            if all(each.retain_handling == 2 for each in wanted):
                return "MQTT-3.3.1-11"
            if any(each.retain_handling == 1 for each in wanted):
                return "MQTT-3.3.1-10"
        return connection.cite("MQTT-3.3.1-12", "MQTT-3.3.1-9")  # established, so RETAIN is 0


def _is_called_up(
    connection: ModelConnection, action: SendPublish, wanted: list[Subscription]
) -> bool:
    """Whether a PUBLISH says that a SUBSCRIBE called it up."""
    if action.delivery.is_retained:
        return True
    published = connection.protocol_version == 5 and any(
        each.retain_as_published for each in wanted
    )
    return action.delivery.retain and not published
