"""Who may do what: here, filters that nobody may publish to or subscribe to."""

from __future__ import annotations

from collections.abc import Iterable

from mqtt_sessions import (
    Message,
    ReasonCode,
    Subscription,
    is_valid_filter,
    is_valid_topic,
    matches,
)

__all__ = ["judge_publish", "judge_subscribe"]


def judge_publish(message: Message, refused: Iterable[str]) -> ReasonCode | None:
    """The host's verdict on a message; None: it may pass."""
    topic_name = message.topic_name
    if not is_valid_topic(topic_name):
        return None  # the library has its own answer to that
    if any(matches(topic_filter, topic_name) for topic_filter in refused):
        return ReasonCode.NOT_AUTHORIZED
    return None


def judge_subscribe(
    subscriptions: Iterable[Subscription], refused: Iterable[str]
) -> tuple[ReasonCode | None, ...]:
    """The host's verdict on each filter.

    A filter is refused if a refused one matches it word for word: `secret/#` refuses `secret/a`
    and `secret/+`. It does not refuse `#`, which would match what lies under `secret` too: a real
    host decides about what a filter can match, not about its text.
    """
    return tuple(_judge_filter(item.topic_filter, refused) for item in subscriptions)


def _judge_filter(wanted: str, refused: Iterable[str]) -> ReasonCode | None:
    if is_valid_filter(wanted) and any(matches(topic_filter, wanted) for topic_filter in refused):
        return ReasonCode.NOT_AUTHORIZED
    return None
