"""What other brokers got wrong, each ruled out by a test of ours."""

from __future__ import annotations

__all__ = ["FAULTS", "LATER", "PARTLY"]

FAULTS: dict[int, str] = {
    1: "A packet identifier wraps onto one that is in flight, in either phase.",
    2: "One space of identifiers for both directions.",
    3: "A resume with a smaller Receive Maximum sends all at once, flushes the queue or drops the "
    "excess.",
    4: "What is sent again goes in order of identifiers, of 16-bit clocks or of hashes.",
    5: "New messages overtake those that wait when a slot becomes free.",
    6: "The send quota leaks or is given back twice.",
    7: "A PUBACK out of order is ignored, or taken for a fatal error.",
    8: "Identifiers taken at queueing bound the backlog at 65,535.",
    9: "PUBREL waits for a full window.",
    10: "A repeated QoS 2 PUBLISH is refused or handed on twice; one whose first copy never came "
    "is acknowledged and lost.",
    11: "PUBLISH is sent again after PUBREL, PUBREL is not sent again, or DUP is 0.",
    12: "A negative PUBREC is answered with PUBREL or the message is sent for ever; a repeated "
    "PUBREC is answered with a code that PUBREL cannot carry.",
    13: "PUBREL with an unknown identifier gets no PUBCOMP, or the connection closes.",
    14: "Identifiers of received QoS 2 messages are lost with the connection or in a snapshot.",
    15: "Expiry kills an exchange that has begun.",
    16: "Where a time-out is switched on, it lasts up to twice as long and nobody is told.",
    17: "Session expiry is not armed after a restart, starts from zero, or is found by a sweep.",
    18: "Pending wills are sorted by delay, counted from CONNECT, or delayed beyond their session.",
    19: "Expired messages fill the queue, push out live ones, or stop the draining.",
    20: "The interval of a retained message is not reduced, or lost.",
    21: "0xFFFFFFFF becomes -1 or overflows.",
    22: "An absent interval is read as the default or as 0; a capped one is not told, or not "
    "capped in DISCONNECT.",
    23: "Interval 0 is expired in one place and never in another.",
    24: "One item that fails stops all later expirations.",
    25: "A delayed will keeps an old time stamp and is born expired.",
    26: "A take-over publishes no will, or inherits a session of interval 0.",
    27: "DISCONNECT 0x04 with a new interval 0 destroys the will before it is sent.",
    28: "Codes other than 0x00 suppress the will; it fires despite a resume, or twice.",
    29: "Messages are lost while a session goes from connection to connection.",
    30: "A take-over wedges, the old connection is not told, or it stays alive.",
    31: "Late events of the old connection touch the session of the new one.",
    32: "Retained messages of other filters, RETAIN 1 on live messages, QoS raised, or an old QoS "
    "kept by a new SUBSCRIBE.",
    33: "A leading wildcard matches topics with $.",
    34: "Subscription Identifiers are missing for overlaps or retained messages, or leak.",
    35: "Filters unsubscribed and messages acknowledged come back after a restart; binary payloads "
    "are lost.",
    36: "Messages are stuck with an absent member of a shared subscription; a take-over counts as "
    "the end of a member.",
    37: "Messages in flight come back to the publisher.",
    38: "A message too large keeps its slot or stalls the queue; off by one at the limit.",
    39: "A queue bound holds per priority, only while connected, or counts payloads alone.",
    40: "A burst at resume is bounded by count only; sessions of random ids are not bounded.",
    41: "Drops without a trace.",
    42: "A corrupt store keeps the server from starting, or fills its memory.",
    43: "One packet object is shared by all subscribers and changed by one.",
}

LATER: dict[int, str] = {
    36: "Shared subscriptions come later.",
}
"""Faults of what is not there yet."""

PARTLY: dict[int, str] = {
    33: "Behind $share/ with shared subscriptions, later.",
    39: "Priorities and queues of groups come later.",
    40: "In counts; bytes in flight come later.",
}
"""What of a fault is ruled out, where that is not all of it."""
