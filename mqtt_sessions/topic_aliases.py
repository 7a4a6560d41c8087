"""Topic aliases: one small helper for each direction of one MQTT 5.0 connection.

A mapping belongs to the connection and to one direction of it, never to the session
[MQTT-3.3.2-7] [NN-16.1]: resolve before a message enters the session, assign when a packet leaves.
`mqtt_sessions.wire` uses both; a host with a codec of its own can too.
"""

from __future__ import annotations

from collections import OrderedDict

from mqtt_sessions.errors import InvalidValue
from mqtt_sessions.reason_codes import ReasonCode

__all__ = ["InboundAliases", "OutboundAliases"]

_ALIAS_COST = 3
"""Bytes that the Topic Alias property takes: an alias for a topic no longer saves nothing."""


def _checked_maximum(owner: str, maximum: int) -> int:
    if isinstance(maximum, bool) or not isinstance(maximum, int) or not 0 <= maximum <= 65_535:
        raise InvalidValue(f"{owner}.topic_alias_maximum must be 0 to 65535, not {maximum!r}")
    return maximum


class InboundAliases:
    """Aliases that the peer has set on one connection.

    Args:
        topic_alias_maximum: What this side announced; 0: the peer may use none.

    *Bound* `topic_alias_maximum` topic names.

    Spec: MQTT 5.0 §3.2.2.3.8 [MQTT-3.2.2-17], [MQTT-3.2.2-18], §3.3.2.3.4 [MQTT-3.3.2-9],
    [MQTT-3.3.2-10], [MQTT-3.3.2-12].
    """

    __slots__ = ("_maximum", "_topics")

    def __init__(self, topic_alias_maximum: int) -> None:
        self._maximum = _checked_maximum("InboundAliases", topic_alias_maximum)
        self._topics: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._topics)

    def resolve(self, topic_name: str, topic_alias: int | None) -> str | ReasonCode:
        """The full topic name of a received PUBLISH, or the code to close the connection with.

        Args:
            topic_name: As received, possibly empty.
            topic_alias: As received; None: the packet has none.

        Returns:
            The topic name; or TOPIC_ALIAS_INVALID for alias 0 or one above the maximum; or
            PROTOCOL_ERROR for an empty name with no alias or with one that was never set.

        *Cost* O(1).

        Spec: MQTT 5.0 §3.3.2.1, §3.3.2.3.4 [MQTT-3.3.2-8], §3.3.4.
        """
        if topic_alias is None:
            return topic_name or ReasonCode.PROTOCOL_ERROR
        if not 1 <= topic_alias <= self._maximum:
            return ReasonCode.TOPIC_ALIAS_INVALID
        if topic_name:
            self._topics[topic_alias] = topic_name
            return topic_name
        return self._topics.get(topic_alias, ReasonCode.PROTOCOL_ERROR)


class OutboundAliases:
    """Aliases that this side has set on one connection; the least recently used one gives way.

    Least recently used rather than first come: the topics of a long-lived connection change, and
    the first ones ever sent would hold the aliases for good. The price of a connection that goes
    round more topics than it has aliases is three bytes for each packet.

    Args:
        topic_alias_maximum: What the peer announced, or less; 0: no aliases.

    *Bound* `topic_alias_maximum` topic names; a host that wants fewer passes less.

    Spec: MQTT 5.0 §3.1.2.11.5 [MQTT-3.1.2-26], [MQTT-3.1.2-27], [MQTT-3.3.2-11].
    """

    __slots__ = ("_aliases", "_maximum")

    def __init__(self, topic_alias_maximum: int) -> None:
        self._maximum = _checked_maximum("OutboundAliases", topic_alias_maximum)
        self._aliases: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._aliases)

    def plan(self, topic_name: str) -> tuple[int | None, bool]:
        """What a PUBLISH of this topic would carry now; changes nothing.

        Returns:
            The alias, and whether the topic name has to be sent beside it. The alias is None
            where there is none to give, or where it would not be shorter than the name.

        *Cost* O(1).
        """
        alias = self._aliases.get(topic_name)
        if alias is not None:
            return alias, False
        if self._maximum == 0 or len(topic_name) <= _ALIAS_COST:
            return None, True
        if len(self._aliases) < self._maximum:
            return len(self._aliases) + 1, True
        return self._aliases[next(iter(self._aliases))], True

    def sent(self, topic_name: str, topic_alias: int) -> None:
        """Record that a PUBLISH with what `plan` said has left.

        Apart from `plan`, so that a packet that is never written leaves no alias behind that the
        receiver has not seen.

        Raises:
            InvalidValue: The alias is not the one that `plan` gives for this topic.

        *Cost* O(1).
        """
        planned, is_new = self.plan(topic_name)
        if topic_alias != planned:
            raise InvalidValue(f"OutboundAliases.plan gave alias {planned!r}, not {topic_alias!r}")
        if not is_new:
            self._aliases.move_to_end(topic_name)
            return
        if len(self._aliases) == self._maximum:
            self._aliases.popitem(last=False)
        self._aliases[topic_name] = topic_alias
