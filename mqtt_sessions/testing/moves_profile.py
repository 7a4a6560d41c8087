"""What the world of a run contains."""

from __future__ import annotations

from mqtt_sessions._validation import check_integer, reject
from mqtt_sessions._values import value

__all__ = ["CLIENTS", "EVERYTHING", "REAL_TIME", "Profile"]

CLIENTS = ("a", "b", "c", "d", "e")
"""As many as there can be; `Profile.clients` says how many there are."""


@value
class Profile:
    """What the world of a run contains.

    Attributes:
        versions: Protocol versions that clients speak; failing runs shrink towards the first.
        clients: How many client ids there are, 1 to 5.
        wills: Clients leave wills.
        retained: Messages are retained.
        expiry: Sessions and messages end by time, and wills are delayed. Without it a session is
            kept for good or not at all.
        keep_alive: Clients have a Keep Alive.
        take_over: A client connects again while its old connection is open.
        hostile: Peers break rules: wrong and unknown acknowledgements, reused packet identifiers,
            ill-formed filters, second CONNECT.
        late: Packets of a connection come in after it was closed, and its loss is told late.
        host: The host acts: publishes, kicks, discards, subscribes, purges, refuses, stops.
        congestion: Connections stall.
        time: The clock moves.
        clock_steps_back: It also goes back.
        crashes: The server dies, between two steps or within one, and comes back with what its
            journal has; for subjects that can, such as `Journaled`.

    Raises:
        InvalidValue: `clients` or `versions` is none of these.
    """

    versions: tuple[int, ...] = (5, 4, 3)
    clients: int = 3
    wills: bool = True
    retained: bool = True
    expiry: bool = True
    keep_alive: bool = True
    take_over: bool = True
    hostile: bool = True
    late: bool = True
    host: bool = True
    congestion: bool = True
    time: bool = True
    clock_steps_back: bool = True
    crashes: bool = False

    def __attrs_post_init__(self) -> None:
        check_integer("Profile", "clients", self.clients, 1, len(CLIENTS))
        known = isinstance(self.versions, tuple) and {*self.versions} <= {3, 4, 5}
        if not (known and self.versions):
            reject("Profile", "versions", "must be a tuple of some of 5, 4 and 3", self.versions)


EVERYTHING = Profile()
"""Everything that can happen to a store that lives on."""

REAL_TIME = Profile(
    versions=(5, 4),
    expiry=False,
    keep_alive=False,
    late=False,
    host=False,
    congestion=False,
    time=False,
    clock_steps_back=False,
)
"""What can be done to a broker from outside, without waiting."""
