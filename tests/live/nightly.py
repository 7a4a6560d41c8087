"""In which scenarios brokers of the nightly profile take part.

RabbitMQ's MQTT plugin and NATS's MQTT listener take part in all scenarios of 3.1.1, the version
that they speak; where they differ stands in `differences`, as it does for Mosquitto.
"""

from __future__ import annotations

__all__ = ["JOINED"]

JOINED: dict[str, frozenset[str]] = {}
"""By broker: the names of the only scenarios in which it takes part. A broker that is not here,
as none is, takes part in all."""
