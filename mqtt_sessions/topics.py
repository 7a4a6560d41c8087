"""Topic names and topic filters: what is well formed, and what matches.

Spec: MQTT 5.0 §4.7.
"""

from __future__ import annotations

__all__ = ["is_encodable", "is_shared_filter", "is_valid_filter", "is_valid_topic", "matches"]

_MAX_BYTES = 65_535


def _is_text(text: str) -> bool:
    """At least one character, no U+0000, no surrogate, at most 65,535 bytes.

    Spec: MQTT 5.0 §4.7.3 [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3], §1.5.4 [MQTT-1.5.4-1].
    """
    if not text or "\0" in text:
        return False
    if text.isascii():
        return len(text) <= _MAX_BYTES
    try:
        return len(text.encode()) <= _MAX_BYTES
    except UnicodeEncodeError:
        return False


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can encode it [MQTT-1.5.4-1]. *Cost* O(length)."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_valid_topic(topic_name: str) -> bool:
    """Whether a message can be published under this name.

    *Cost* O(length).

    Spec: MQTT 5.0 §3.3.2.1 [MQTT-3.3.2-2], §4.7.1 [MQTT-4.7.0-1], §4.7.3.
    """
    if "+" in topic_name or "#" in topic_name:
        return False
    # the common case spelled out, for it is looked at with each PUBLISH
    if topic_name.isascii() and "\0" not in topic_name:
        return 0 < len(topic_name) <= _MAX_BYTES
    return _is_text(topic_name)


def is_valid_filter(topic_filter: str) -> bool:
    """Whether this is a well-formed filter; what follows `$share/` is not looked at.

    *Cost* O(length).

    Spec: MQTT 5.0 §4.7.1 [MQTT-4.7.1-1], [MQTT-4.7.1-2], §4.7.3.
    """
    if not _is_text(topic_filter):
        return False
    if "#" in topic_filter:
        if topic_filter.index("#") != len(topic_filter) - 1:
            return False
        if len(topic_filter) > 1 and topic_filter[-2] != "/":
            return False
    if "+" not in topic_filter:
        return True
    return all(level == "+" or "+" not in level for level in topic_filter.split("/"))


def is_shared_filter(topic_filter: str) -> bool:
    """Whether the filter names a shared subscription.

    Spec: MQTT 5.0 §4.8.2 [MQTT-4.8.2-1].
    """
    return topic_filter.startswith("$share/")


def matches(topic_filter: str, topic_name: str) -> bool:
    """Whether a valid filter matches a valid topic name; an empty name matches nothing.

    *Cost* O(levels).

    Spec: MQTT 5.0 §4.7.1, §4.7.2 [MQTT-4.7.2-1], §4.7.3 [MQTT-4.7.3-4].
    """
    if topic_filter == topic_name:
        return True
    if "+" not in topic_filter and not topic_filter.endswith("#"):
        return False
    # MQTT-4.7.2-1: a leading wildcard does not match a topic that begins with $
    if not topic_name or (topic_name[0] == "$" and topic_filter[0] in "+#"):
        return False
    wanted = topic_filter.split("/")
    given = topic_name.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True  # NN-12.9: the parent level included
        if index == len(given):
            return False
        if level not in ("+", given[index]):
            return False
        if index == len(given) - 1 and wanted[index + 1 :] == ["#"]:
            return True
    return len(wanted) == len(given)
