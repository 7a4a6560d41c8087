"""A reference model of MQTT sessions, 5.0 and 3.x, written straight from the standard.

It does not predict one output, for the standard leaves a server free in much: packet identifiers,
the order between publishers, which of several waiting messages goes first. It is told what
happened, accepts or rejects what the subject did about it, and knows what is still owed.

Naive on purpose: lists and dictionaries, everything looked through in full. It shares nothing with
the core but values. Each rule stands under its id, in the module of its subject:

- `model_values`: what is remembered; topics and filters.
- `model_routing`: who gets a message, what is retained.
- `model_lifetime`: CONNECT, the end of connections and sessions, wills, time.
- `model_codes`: the reason codes of SUBACK and UNSUBACK.
- `model_requests`: SUBSCRIBE and UNSUBSCRIBE.
- `model_packets`: what else clients send, what the host does.
- `model_replays`: retained messages that a SUBSCRIBE called up.
- `model_citations`: which statement a PUBLISH breaks that nothing allows.
- `model_copies`: what a PUBLISH says, and how many copies of a message there are.
- `model_sending`: what may be sent, and when.
- `model_notices`: drops and bounds, and what is still owed at the end of a step.
- `model_crash`: what is left after a crash, where a store is durable.

What it does not look at: bytes on the wire, topic aliases, shared subscriptions, the counters, what
an exception says, a host that feeds an event of a later instant without `handle_timeout` before it.
Where two things are due at one instant, either order will do, unless notices tell it; what was
published in two steps is in the order of its publication, also at one instant. Messages are told
apart by topic and payload, so those of a run should differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mqtt_sessions.actions import Action
from mqtt_sessions.events import (
    ClientConnected,
    ConnectionCongested,
    ConnectionLost,
    ConnectionWritable,
    DisconnectReceived,
    Event,
    HeartbeatPassed,
    LimitsChanged,
    MalformedPacketReceived,
    MessagePublished,
    PingReceived,
    PubackReceived,
    PubcompReceived,
    PublishReceived,
    PubrecReceived,
    PubrelReceived,
    QueuePurged,
    ServerStopping,
    SessionDiscarded,
    SessionExpirySet,
    SessionKicked,
    SubscribeReceived,
    SubscriptionsAdded,
    SubscriptionsRemoved,
    UnsubscribeReceived,
    WillRevoked,
)
from mqtt_sessions.messages import Delivery
from mqtt_sessions.notices import Notice
from mqtt_sessions.policy import ExpiryPolicy, ServerOptions, SessionLimits
from mqtt_sessions.reason_codes import ReasonCode
from mqtt_sessions.testing.model_crash import Crashing
from mqtt_sessions.testing.model_values import Disagreement, ModelConnection, ModelSession

__all__ = ["Disagreement", "Model", "ModelConnection", "ModelSession"]

_DEFAULT_POLICY = ExpiryPolicy()
_DEFAULT_LIMITS = SessionLimits()
_DEFAULT_OPTIONS = ServerOptions()


class Model(Crashing):
    """Accepts or rejects what a subject does, step by step.

    A step: `handle` (what the subject was told) or `handle_timeout` or both, then `observe` for
    each action and notice that came of it, then `settle`. All raise `Disagreement`.

    Notices are not needed; where a subject gives them, they are held against the rules too.

    Args:
        policy: When things end.
        limits: How far things grow.
        options: What the server offers.
        size_of: Bytes of a PUBLISH packet; without it no message is too large.

    Attributes:
        sessions: All sessions, by client id.
        connections: All connections that are not reported lost yet, by name.
        now: The latest instant that was told.
        is_order_seen: Whether actions on different connections are told in the order in which the
            subject did them, which cannot be seen of a broker behind sockets.
    """

    def __init__(
        self,
        policy: ExpiryPolicy = _DEFAULT_POLICY,
        limits: SessionLimits = _DEFAULT_LIMITS,
        options: ServerOptions = _DEFAULT_OPTIONS,
        size_of: Callable[[Delivery, int], int] | None = None,
    ) -> None:
        super().__init__(policy, limits, options, size_of)

    def handle(self, event: Event, now: float) -> None:
        """Take in what the subject was told; what it has to do about it is owed from now on.

        Raises:
            ValueError: The event cannot happen now, which is the driver's fault.
        """
        self._elapse(now)
        name = getattr(event, "connection", None)
        if isinstance(event, ClientConnected):
            known = self.connections.get(event.connection)
            if known is not None and not known.open:
                raise ValueError(f"not reported lost yet: {event!r}")
            if known is not None:
                known.heard_at = self.now
            self._connect(event)
        elif name is not None:
            self._of_connection(self._known(event, name), event)
        else:
            self._of_host(event)

    def handle_timeout(self, now: float) -> None:
        """Time has passed: all that is due at `now` ends, in order of instant, then of kind."""
        self._elapse(now)

    @property
    def next_deadline_at(self) -> float | None:
        """The next instant at which something ends, or is to be sent again.

        Retained messages that only wait for the next slice are not among these.
        """
        due = [at for at, _, _ in self._due(doubtful=False)]
        return min(due + self._retries(), default=None)

    def observe(self, output: Action | Notice) -> None:
        """Take in what the subject did.

        Raises:
            Disagreement: No rule allows the action. What a notice says is held against the rules by
                `settle`, when all actions of the step are known.
        """
        if isinstance(output, Action):
            self._observe_action(output)
        else:
            self._observe_notice(output)

    # ------------------------------------------------------------ events

    def _known(self, event: Event, name: Any) -> ModelConnection:
        connection = self.connections.get(name)
        if connection is None:
            raise ValueError(f"the connection was never announced: {event!r}")
        return connection

    def _of_connection(self, connection: ModelConnection, event: Event) -> None:
        if isinstance(event, ConnectionLost):
            del self.connections[connection.name]
            connection.gone = True
            connection.owed.clear()
            if connection.open:
                self._end_connection(connection)
            return
        if not connection.open:
            return  # NN-3.5, MQTT-3.1.4-6
        if isinstance(event, ConnectionCongested | ConnectionWritable):
            connection.congested = isinstance(event, ConnectionCongested)
            return
        connection.heard_at = self.now  # NN-5.5: any packet is a sign of life
        match event:
            case PublishReceived():
                self._publish_received(connection, event)
            case PubackReceived():
                self._puback_received(connection, event)
            case PubrecReceived():
                self._pubrec_received(connection, event)
            case PubrelReceived():
                self._pubrel_received(connection, event)
            case PubcompReceived():
                self._pubcomp_received(connection, event)
            case SubscribeReceived():
                self._subscribe_received(connection, event)
            case UnsubscribeReceived():
                self._unsubscribe_received(connection, event)
            case PingReceived():
                self._ping_received(connection, event)
            case DisconnectReceived():
                self._disconnected(connection, event)
            case MalformedPacketReceived():
                rule = connection.cite("MQTT-4.13.1-1", "MQTT-4.8.0-1")
                self._peer_error(connection, (event.reason_code,), rule)
            case _:
                raise ValueError(f"a store does not take {event!r}")

    def _of_host(self, event: Event) -> None:
        client_id = getattr(event, "client_id", None)
        if client_id is not None and client_id not in self.sessions:
            raise ValueError(f"there is no such session: {event!r}")
        match event:
            case MessagePublished():
                self._host_published(event.message, event.publisher)
            case SessionKicked():
                connection = self.sessions[event.client_id].connection
                if connection is not None:
                    self._close(connection, "host", (event.reason_code,))
            case SessionDiscarded():
                self._discard(event.client_id)
            case SessionExpirySet():
                self._expiry_set(event)
            case SubscriptionsAdded():
                self._subscriptions_added(event)
            case SubscriptionsRemoved():
                for topic_filter in event.topic_filters:
                    self._unsubscribe(self.sessions[event.client_id], topic_filter)
            case WillRevoked():
                self._revoke_will(event.client_id)
            case QueuePurged():
                self._purge(event)
            case LimitsChanged():
                self.limits = event.limits
                for session in self.sessions.values():
                    if not session.own_limits:
                        session.limits = event.limits
            case HeartbeatPassed():
                pass  # nothing that a client could see
            case ServerStopping():
                for connection in list(self.connections.values()):
                    if connection.open:
                        code = ReasonCode.SERVER_SHUTTING_DOWN
                        self._close(connection, "host", (code,))
            case _:
                raise ValueError(f"a store does not take {event!r}")
