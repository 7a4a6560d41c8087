"""What of a store has to be there again after a crash: the snapshot before, projected.

Written apart from what a store does when it recovers, so that the two can be held against each
other: `durable_view(before, now)` and `durable_view(recovered, now)` have to be equal.
"""

from __future__ import annotations

from attrs import evolve

from mqtt_sessions.policy import SessionLimits
from mqtt_sessions.snapshots import SessionContents, StoreSnapshot

__all__ = ["durable_view"]


def durable_view(snapshot: StoreSnapshot, cut_at: float) -> StoreSnapshot:
    """The state of a durable store after a crash that cut all connections at this instant.

    - Sessions whose expiry interval is 0 are gone; one that had a will is left as a session that
      ended at `cut_at`, for the will is still due.
    - The others have no connection. What they had in flight at QoS 1 waits again, with what waited
      before it, in order of arrival; QoS 2 stays in flight, in its phase and order.
    - Wills of connected sessions are due, or wait for their delay, from `cut_at` on.
    - What is not durable is gone: counters, and where the next packet identifier is looked for.

    *Cost* O(everything).
    """
    sessions = [
        _view(each, cut_at, snapshot.limits)
        for each in snapshot.sessions
        if each.expiry_interval != 0 or each.will is not None
    ]
    sessions.sort(key=lambda each: each.client_id)
    arrivals = [each.received_at for each in snapshot.retained]
    for session in sessions:
        arrivals += [each.received_at for each in session.queue]
        arrivals += [each.received_at for _, each in session.in_flight if each is not None]
    return evolve(
        snapshot,
        now=cut_at,
        arrived_at=max(arrivals, default=float("-inf")),
        sessions=tuple(sessions),
        connections=(),
        retained=tuple(sorted(snapshot.retained, key=lambda each: each.message.topic_name)),
        accepted=sum(each.accepted for each in sessions),
        completed=0,
        dropped=(),
        durable=None,
    )


def _view(before: SessionContents, cut_at: float, limits: SessionLimits) -> SessionContents:
    connected = before.connection is not None
    gone = before.expiry_interval == 0
    expires_at = before.expires_at
    if connected and before.expiry_interval is not None:
        expires_at = cut_at + before.expiry_interval
    due_at = before.will_due_at
    if before.will is not None and due_at is None:
        due_at = cut_at if gone else cut_at + before.will.will_delay_interval
    if gone:
        return evolve(
            before,
            limits=limits,
            own_limits=False,
            principal=None,
            expires_at=expires_at,
            subscriptions=(),
            queue=(),
            in_flight=(),
            abandoned=(),
            last_packet_id=0,
            inbound=(),
            will_due_at=due_at,
            accepted=0,
            dropped=(),
            connection=None,
            replay=None,
        )
    waiting = [each for _, each in before.in_flight if each is not None and each.qos == 1]
    waiting += before.queue
    in_flight = tuple(each for each in before.in_flight if each[1] is None or each[1].qos == 2)
    replay = before.replay
    return evolve(
        before,
        expires_at=expires_at,
        queue=tuple(sorted(waiting, key=lambda each: each.received_at)),
        in_flight=in_flight,
        last_packet_id=0,
        will_due_at=due_at,
        accepted=len(waiting) + len(in_flight) - len(before.abandoned),
        dropped=(),
        connection=None,
        replay=evolve(replay, goes_on_at=None) if replay is not None and replay.cursors else None,
    )
