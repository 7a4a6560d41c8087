"""What the broker is told: a TOML file that sets the library's fields by their own names.

    default_session_expiry_interval = 86400       # ExpiryPolicy; seconds, "never" for none
    maximum_queued_messages = 5000                # SessionLimits; "none" for no bound
    overflow = "drop_oldest"                      # a member of an enum, by its value
    receive_maximum = 20                          # ServerOptions
    refuse_subscribe = ["secret/#"]               # topic filters
    refuse_publish = ["secret/#", "$SYS/#"]

The tables `[policy]`, `[limits]` and `[options]` may hold the fields of `ExpiryPolicy`,
`SessionLimits` and `ServerOptions`, for those who like their files in order.
"""

from __future__ import annotations

import tomllib
from enum import Enum
from pathlib import Path
from typing import Any

import attrs

from mqtt_sessions import (
    ExpiryPolicy,
    InvalidValue,
    ServerOptions,
    SessionLimits,
    is_valid_filter,
)

__all__ = ["Configuration", "ConfigurationError", "load"]

DEFAULT_POLICY = ExpiryPolicy()
DEFAULT_LIMITS = SessionLimits(
    maximum_subscriptions=1000,
    maximum_filter_levels=128,  # EMQX's `max_topic_levels`
)
DEFAULT_OPTIONS = ServerOptions(
    # EMQX's `max_packet_size`: what one client can make the broker hold, and do in one go.
    maximum_packet_size=1_048_576,
    topic_alias_maximum=10,  # Mosquitto's `max_topic_alias`
)


class ConfigurationError(Exception):
    """The file cannot be used; the message is one line for whoever wrote it."""


@attrs.frozen
class Configuration:
    """All that the broker can be told.

    Attributes:
        policy: When things end.
        limits: How far things grow.
        options: What the server offers.
        refuse_subscribe: Filters that nobody may subscribe to.
        refuse_publish: Filters that nobody may publish to.
    """

    policy: ExpiryPolicy = DEFAULT_POLICY
    limits: SessionLimits = DEFAULT_LIMITS
    options: ServerOptions = DEFAULT_OPTIONS
    refuse_subscribe: tuple[str, ...] = ()
    refuse_publish: tuple[str, ...] = ()


_TABLES = ("policy", "limits", "options")
_FILTERS = ("refuse_subscribe", "refuse_publish")
_NONE = ("never", "none")


def load(path: Path) -> Configuration:
    """Read a file.

    Raises:
        ConfigurationError: It is not there, no TOML, or has an unknown or wrong field.
    """
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # no TOML, or not even UTF-8
        raise ConfigurationError(f"{path}: {error}") from None
    try:
        return _configuration(content)
    except (ConfigurationError, InvalidValue) as error:
        raise ConfigurationError(f"{path}: {error}") from None


def _configuration(content: dict[str, Any]) -> Configuration:
    default = Configuration()
    parts: dict[str, dict[str, Any]] = {table: {} for table in _TABLES}
    filters: dict[str, tuple[str, ...]] = {}
    for name, given in content.items():
        if name in _FILTERS:
            filters[name] = _filters(name, given)
        elif name in _TABLES:
            if not isinstance(given, dict):
                raise ConfigurationError(f"{name} must be a table, not {given!r}")
            for field, inner in given.items():
                _set(field, inner, (name,), default, parts)
        else:
            _set(name, given, _TABLES, default, parts)
    return Configuration(
        attrs.evolve(default.policy, **parts["policy"]),
        attrs.evolve(default.limits, **parts["limits"]),
        attrs.evolve(default.options, **parts["options"]),
        **filters,
    )


def _set(
    name: str,
    given: Any,
    tables: tuple[str, ...],
    default: Configuration,
    parts: dict[str, dict[str, Any]],
) -> None:
    """Put a field where it belongs; whether its value is right is for the class to say."""
    for table in tables:
        part = getattr(default, table)
        if name not in attrs.fields_dict(type(part)):
            continue
        if name in parts[table]:
            raise ConfigurationError(f"{name} is set twice")
        parts[table][name] = _value(name, given, getattr(part, name))
        return
    where = f" in [{tables[0]}]" if len(tables) == 1 else ""
    raise ConfigurationError(f"unknown field {name!r}{where}")


def _value(name: str, given: Any, default: Any) -> Any:
    if isinstance(default, Enum):
        kind = type(default)
        try:
            return kind(given)
        except ValueError:
            allowed = ", ".join(repr(member.value) for member in kind)
            raise ConfigurationError(f"{name} must be one of {allowed}, not {given!r}") from None
    return None if given in _NONE else given


def _filters(name: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise ConfigurationError(f"{name} must be a list of topic filters, not {given!r}")
    for topic_filter in given:
        if not isinstance(topic_filter, str) or not is_valid_filter(topic_filter):
            raise ConfigurationError(f"{name} must hold topic filters, not {topic_filter!r}")
    return tuple(given)
