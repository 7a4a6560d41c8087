"""The state of one session: what it holds, and nothing that it does.

Spec: MQTT 5.0 §4.1 [NN-1.7].
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from mqtt_sessions.connection import Link
from mqtt_sessions.deadlines import DeadlineKind, Timer
from mqtt_sessions.messages import Delivery, Message, Will
from mqtt_sessions.queue import Queue
from mqtt_sessions.rows import Rows
from mqtt_sessions.subscriptions import Subscription
from mqtt_sessions.turn import Settings

__all__ = [
    "ABANDONED",
    "FIRST_ID",
    "NO_LOCAL",
    "QOS",
    "RELEASED",
    "RETAIN_AS_PUBLISHED",
    "Exchange",
    "InboundIds",
    "Overlap",
    "PendingWill",
    "Released",
    "Route",
    "SessionState",
]

_INF = float("inf")

QOS: Final = 3
RETAIN_AS_PUBLISHED: Final = 4
NO_LOCAL: Final = 8
_ID_SHIFT: Final = 6
FIRST_ID: Final = 1 << _ID_SHIFT
"""Packed options below it hold no Subscription Identifier."""


class Route:
    """A subscription in force, shared by the session that has it and the topic tree.

    `options` packs what a publish looks at into one integer, so that it is also the key under
    which one delivery is made for all receivers alike: QoS (2 bits), Retain As Published, No
    Local, Retain Handling (2 bits), Subscription Identifier (0: none).
    """

    __slots__ = ("options", "session", "topic_filter")

    def __init__(self, session: SessionState, topic_filter: str, options: int) -> None:
        self.session = session
        self.topic_filter = topic_filter
        self.options = options

    @staticmethod
    def pack(subscription: Subscription, granted_qos: int) -> int:
        """The options of a subscription."""
        return (
            granted_qos
            | (RETAIN_AS_PUBLISHED if subscription.retain_as_published else 0)
            | (NO_LOCAL if subscription.no_local else 0)
            | subscription.retain_handling << 4
            | (subscription.subscription_id or 0) << _ID_SHIFT
        )

    @staticmethod
    def subscription_ids(options: int) -> tuple[int, ...]:
        """The identifier in packed options, if there is one."""
        return (options >> _ID_SHIFT,) if options >= FIRST_ID else ()

    @property
    def subscription(self) -> Subscription:
        """The value for hosts, with the granted QoS."""
        options = self.options
        return Subscription(
            self.topic_filter,
            options & QOS,
            bool(options & NO_LOCAL),
            bool(options & RETAIN_AS_PUBLISHED),
            options >> 4 & 3,
            options >> _ID_SHIFT or None,
        )


class Overlap:
    """Several subscriptions of one session that match the same message, merged into one.

    Its options are a tuple: the higher QoS, with RETAIN kept if any keeps it, and behind it all
    Subscription Identifiers.

    Spec: MQTT 5.0 §3.3.4 [MQTT-3.3.4-2], [MQTT-3.3.4-4] [NN-12.4].
    """

    __slots__ = ("options", "session")

    def __init__(self, routes: list[Route]) -> None:
        self.session = routes[0].session
        qos = max(route.options & QOS for route in routes)
        kept = any(route.options & RETAIN_AS_PUBLISHED for route in routes)
        ids = (route.options >> _ID_SHIFT for route in routes if route.options >= FIRST_ID)
        self.options: int | tuple[int, ...] = (qos | (RETAIN_AS_PUBLISHED if kept else 0), *ids)

    @classmethod
    def of(cls, session: SessionState, options: int | tuple[int, ...]) -> Overlap:
        """A match by its options alone: of one subscription or of several."""
        overlap = cls.__new__(cls)
        overlap.session = session
        overlap.options = options
        return overlap


class Released:
    """What stands in flight for an exchange in its PUBREL phase; the message has left."""

    __slots__ = ()

    qos: Final = 3
    """The phase, where a delivery in flight has its QoS; see `flows.Phase`."""


RELEASED = Released()
ABANDONED = Released()
"""The same for a message that was too large to be sent again and was dropped [NN-8.7]."""

Exchange = Delivery | Released


class PendingWill(Timer):
    """A will whose delay runs."""

    __slots__ = ("client_id", "will")

    kind = DeadlineKind.WILL_DELAY

    def __init__(self, client_id: str, will: Will) -> None:
        super().__init__()
        self.client_id = client_id
        self.will = will

    @property
    def message(self) -> Message:
        """The Will Message."""
        return self.will.message

    @property
    def subject(self) -> str:
        return self.client_id


class InboundIds(Timer):
    """Incoming QoS 2 exchanges of a session; as a timer, their time-out.

    Attributes:
        ends_at: Identifier to the instant at which it is forgotten (infinity: at PUBREL).
        in_order: Whether these instants are in order, as they are under one policy.
        routing: Those whose message the host's router still has, and under which route; only
            without a store.
    """

    __slots__ = ("client_id", "ends_at", "in_order", "pause", "routing")

    kind = DeadlineKind.INBOUND_QOS2

    def __init__(self, client_id: str) -> None:
        super().__init__()
        self.client_id = client_id
        self.pause = _INF
        self.ends_at: OrderedDict[int, float] = OrderedDict()
        self.in_order = True
        self.routing: dict[int, int] = {}

    @property
    def due(self) -> float:
        if self.in_order:
            return next(iter(self.ends_at.values()), _INF)
        return min(self.ends_at.values(), default=_INF)

    def hold(self, packet_id: int, ends_at: float) -> None:
        """Remember an identifier. *Cost* O(1)."""
        if self.ends_at and next(reversed(self.ends_at.values())) > ends_at:
            self.in_order = False  # a resumed session may have a new policy
        self.ends_at[packet_id] = ends_at

    @property
    def interval(self) -> float:
        return self.pause

    @property
    def subject(self) -> str:
        return self.client_id


class SessionState(Timer):
    """Everything that a session holds; as a timer, its own expiry.

    Kept small: containers are made on first use, a sole subscription needs none, and what a
    connection needs is in its `Link`.

    Attributes:
        client_id: Its key.
        settings: Policy, limits and options.
        principal: Whom it is bound to.
        expiry_interval: In force: 0 ends it with its connection, None never.
        link: The open connection.
        routes: Subscriptions: None, the only one, or filter to each.
        queue: Made with the first accepted message.
        in_flight: Packet identifier to exchange: deliveries in order of first sending, and among
            them the PUBREL phases in order of their PUBRECs [MQTT-4.6.0-4].
        last_packet_id: Where the next search for a free identifier starts.
        inbound: Incoming QoS 2 exchanges.
        will: As CONNECT brought it, or waiting for its delay.
        rows: What the journal knows it by; None: it is not durable.
    """

    __slots__ = (
        "client_id",
        "expiry_interval",
        "in_flight",
        "inbound",
        "last_packet_id",
        "link",
        "principal",
        "queue",
        "routes",
        "rows",
        "settings",
        "will",
    )

    kind = DeadlineKind.SESSION_EXPIRY

    def __init__(self, client_id: str, settings: Settings) -> None:
        super().__init__()
        self.client_id = client_id
        self.settings = settings
        self.principal: str | None = None
        self.expiry_interval: float | None = 0
        self.link: Link | None = None
        self.routes: Route | dict[str, Route] | None = None
        self.queue: Queue | None = None
        self.in_flight: dict[int, Exchange] | None = None
        self.last_packet_id = 0
        self.inbound: InboundIds | None = None
        self.will: Will | PendingWill | None = None
        self.rows: Rows | None = None

    @property
    def subject(self) -> str:
        return self.client_id

    @property
    def soonest_at(self) -> float:
        """When keep alive, its will's delay or its own expiry is due, whichever is first."""
        if self.link is not None:
            return self.link.due
        return min(self.at, self.will.at) if isinstance(self.will, PendingWill) else self.at

    def route(self, topic_filter: str) -> Route | None:
        """The subscription to this very filter. *Cost* O(1)."""
        routes = self.routes
        if routes is None:
            return None
        if isinstance(routes, Route):
            return routes if routes.topic_filter == topic_filter else None
        return routes.get(topic_filter)

    def all_routes(self) -> list[Route]:
        """All subscriptions, in order of their making. *Cost* O(subscriptions)."""
        routes = self.routes
        if routes is None:
            return []
        return [routes] if isinstance(routes, Route) else list(routes.values())

    def route_count(self) -> int:
        """How many subscriptions there are. *Cost* O(1)."""
        routes = self.routes
        if routes is None:
            return 0
        return 1 if isinstance(routes, Route) else len(routes)

    def add_route(self, route: Route) -> None:
        """Take in a subscription to a new filter. *Cost* O(1)."""
        routes = self.routes
        if routes is None:
            self.routes = route
        elif isinstance(routes, Route):
            self.routes = {routes.topic_filter: routes, route.topic_filter: route}
        else:
            routes[route.topic_filter] = route

    def remove_route(self, topic_filter: str) -> Route | None:
        """Take out the subscription to this filter; None if there is none. *Cost* O(1)."""
        routes = self.routes
        if isinstance(routes, dict):
            route = routes.pop(topic_filter, None)
            if len(routes) == 1:
                self.routes = next(iter(routes.values()))
            return route
        if routes is None or routes.topic_filter != topic_filter:
            return None
        self.routes = None
        return routes
