"""What a seed decides of a simulated world: policy, limits and options."""

from __future__ import annotations

from random import Random

from mqtt_sessions.policy import (
    ExpiryPolicy,
    OverflowPolicy,
    OverlapPolicy,
    ServerOptions,
    SessionLimits,
    UnauthorizedPolicy,
)

__all__ = ["draw_limits", "draw_options", "draw_policy"]


def draw_policy(chance: Random) -> ExpiryPolicy:
    """A policy, each deviation in a few of them."""
    return ExpiryPolicy(
        default_session_expiry_interval=chance.choice((7200, 60, None)),
        maximum_session_expiry_interval=chance.choice((None, None, 600)),
        minimum_session_expiry_interval=chance.choice((None, None, 30)),
        default_message_expiry_interval=chance.choice((None, None, 20)),
        maximum_message_expiry_interval=chance.choice((None, None, 10)),
        show_default_message_expiry=chance.random() < 0.5,
        expire_in_flight=chance.random() < 0.2,
        inbound_qos2_interval=15 if chance.random() < 0.2 else None,
        retry_interval=3 if chance.random() < 0.3 else None,
    )


def draw_limits(chance: Random) -> SessionLimits:
    """Limits that are reached."""
    return SessionLimits(
        maximum_sessions=chance.choice((None, 14)),
        maximum_client_id_length=23,
        maximum_subscriptions=chance.choice((4, 12)),
        maximum_filters_per_packet=20,
        maximum_filter_levels=8,
        maximum_granted_qos=chance.choice((2, 2, 2, 1)),
        maximum_send_window=chance.choice((1, 2, 8, 32)),
        maximum_queued_messages=chance.choice((5, 20, 100, 100, None)),
        maximum_queued_bytes=chance.choice((None, None, 300)),
        overflow=chance.choice(tuple(OverflowPolicy)),
        queue_qos0=chance.random() < 0.7,
        maximum_inbound_qos2=chance.choice((3, 20, None)),
        maximum_retained_messages=chance.choice((None, 3)),
        maximum_retained_bytes=chance.choice((None, 100)),
        retained_replay_batch=chance.choice((1, 2, 100)),
    )


def draw_options(chance: Random) -> ServerOptions:
    """What the server offers; always all three QoS, and to retain."""
    return ServerOptions(
        receive_maximum=chance.choice((3, 20, 100)),
        server_keep_alive=chance.choice((None, None, None, 30)),
        overlap=chance.choice((OverlapPolicy.MERGE, OverlapPolicy.MERGE, OverlapPolicy.EACH)),
        upgrade_qos=chance.random() < 0.1,
        unauthorized=chance.choice(tuple(UnauthorizedPolicy)),
    )
