"""What belongs to one network connection and is gone with it.

Spec: MQTT 5.0 §4.9 [NN-1.9]: quota, Receive Maximum, Maximum Packet Size and Keep Alive are not
session state.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING

from mqtt_sessions.deadlines import DeadlineKind, Timer

if TYPE_CHECKING:
    from mqtt_sessions.state import SessionState

__all__ = ["CLOSED", "Link", "RetryTimer"]

_INF = float("inf")


class RetryTimer(Timer):
    """When what was sent on this connection is sent again; MQTT 3.x only.

    Spec: MQTT 3.1.1 §4.4 [NN-8.1].
    """

    __slots__ = ("client_id", "pause", "sent_at")

    kind = DeadlineKind.RETRY

    def __init__(self, client_id: str, pause: float) -> None:
        super().__init__()
        self.client_id = client_id
        self.pause = pause
        # ordered dicts, where a plain one is slow to find its first entry behind removed ones
        self.sent_at: OrderedDict[int, float] = OrderedDict()

    @property
    def due(self) -> float:
        for at in self.sent_at.values():  # in order of sending, the oldest first
            return at + self.pause
        return _INF

    @property
    def interval(self) -> float:
        return self.pause

    @property
    def subject(self) -> str:
        return self.client_id


class Link(Timer):
    """An open connection; as a timer, its keep alive.

    Attributes:
        due: When keep alive ends the connection unless a packet comes; infinity: never.
        interval: 1.5 times the keep alive in force; infinity: off.
        unsent: In flight from an earlier connection and not yet sent again on this one, in order.
        unitless: In the PUBREL phase since an earlier connection: no unit of the window [NN-10.8].
        receive_maximum: Incoming QoS 1 and 2 PUBLISH packets that may be open; None: no matter.
        inbound_units: Incoming QoS 1 and 2 identifiers that are open on this connection.
        replaying: Retained messages that SUBSCRIBE called up are still to be sent.

    What follows from these, worked out anew by `smooth` when one of them changes:
        held: Nothing new may be sent: the connection is congested, or `unsent` comes first.
        direct: A new message needs no look at anything but the window.
        plain: An acknowledgement frees its identifier and that is all.
    """

    __slots__ = (
        "congested",
        "connection",
        "direct",
        "due",
        "expiry_asked",
        "held",
        "inbound_units",
        "interval",
        "maximum_packet_size",
        "plain",
        "receive_maximum",
        "replaying",
        "retry",
        "session",
        "unitless",
        "unsent",
        "version",
        "window",
    )

    kind = DeadlineKind.KEEP_ALIVE

    connection: Hashable
    due: float  # attributes and no properties, because each packet reads and stores them
    interval: float
    session: SessionState | None

    def __init__(self, connection: Hashable, session: SessionState | None, version: int) -> None:
        super().__init__()
        self.connection = connection
        self.session = session
        self.version = version
        self.due = _INF
        self.interval = _INF
        self.window = 0
        self.maximum_packet_size: int | None = None
        self.receive_maximum: int | None = None
        self.expiry_asked = 0
        self.congested = False
        self.unsent: OrderedDict[int, None] = OrderedDict()
        self.unitless: set[int] = set()
        self.inbound_units: set[int] = set()
        self.retry: RetryTimer | None = None
        self.replaying = False
        self.held = False
        self.direct = True
        self.plain = True

    def smooth(self) -> None:
        """Work out what follows from the rest. *Cost* O(1)."""
        retry = self.retry is not None
        self.held = self.congested or bool(self.unsent)
        self.direct = not (self.held or retry or self.maximum_packet_size is not None)
        self.plain = not (self.unsent or self.unitless or retry or self.replaying)

    @property
    def subject(self) -> str:
        return "" if self.session is None else self.session.client_id


CLOSED = Link(None, None, 0)
CLOSED.plain = False
"""Stands for every connection that is closed and whose `ConnectionLost` has not come yet."""
