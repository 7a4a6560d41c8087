"""The same QoS 1 path in other Python packages, where they are installed.

amqtt 0.11 or later: its broker's protocol handlers without a network. With no writer attached
they encode nothing and write nothing, as this library does. The broker's own loop over its
subscriptions is left out, which is in amqtt's favor.

gmqtt 0.8 or later: the in-memory persistence of its client, which keeps encoded packets until
they are acknowledged and does nothing else.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

from .timing import Bench, Figure, Scale, Skipped, clock, interleave, median, steady_heap
from .worlds import PAYLOAD

__all__ = ["BENCHES"]

_FANOUTS = (1, 10)
_TOPIC = "sensors/7/temperature"


class _NoPlugins:
    """Nobody listens to amqtt's events."""

    async def fire_event(self, *_: object, **__: object) -> None:
        return None


async def _amqtt_rounds(fanout: int, publishes: int, rounds: int) -> list[float]:
    from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
    from amqtt.mqtt.puback import PubackPacket
    from amqtt.mqtt.publish import PublishPacket
    from amqtt.session import Session

    def handler(client_id: str) -> Any:
        session = Session()
        session.client_id = client_id
        return BrokerProtocolHandler(_NoPlugins(), session)

    publisher = handler("publisher")
    subscribers = [handler(f"subscriber-{number}") for number in range(fanout)]
    samples = []
    for _ in range(rounds + 1):
        began = clock()
        for packet_id in range(1, publishes + 1):
            packet = PublishPacket.build(_TOPIC, PAYLOAD, packet_id, False, 1, False)
            await publisher.handle_publish(packet)
            message = await publisher.mqtt_deliver_next_message()
            flows = [
                asyncio.ensure_future(
                    subscriber.mqtt_publish(message.topic, message.data, 1, retain=False)
                )
                for subscriber in subscribers
            ]
            while len(subscribers[-1].session.inflight_out) == 0:
                await asyncio.sleep(0)
            for subscriber in subscribers:
                (sent,) = subscriber.session.inflight_out
                await subscriber.handle_puback(PubackPacket.build(sent))
            await asyncio.gather(*flows)
        samples.append((clock() - began) / (publishes * fanout))
    assert not any(subscriber.session.inflight_out for subscriber in subscribers)
    return samples[1:]


def _amqtt(fanout: int, scale: Scale) -> Iterator[Figure]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, and none of our business
        try:
            import amqtt.mqtt.protocol.broker_handler  # noqa: F401
        except ImportError as missing:
            raise Skipped("amqtt is not installed") from missing
        publishes = max(scale.count(500) // fanout, 2)
        with steady_heap():
            samples = asyncio.run(_amqtt_rounds(fanout, publishes, scale.rounds))
    yield Figure(f"amqtt_qos1_fanout{fanout}_us", median(samples) * 1e6, "us")


def _gmqtt(scale: Scale) -> Iterator[Figure]:
    try:
        from gmqtt.storage import PersistentStorage
    except ImportError as missing:
        raise Skipped("gmqtt 0.8 or later is not installed") from missing
    packet = b"\x32\x7d\x00\x15" + _TOPIC.encode() + b"\x00\x01" + PAYLOAD
    storage = PersistentStorage()
    messages = scale.count(5_000)

    def keep_and_remove() -> float:
        began = clock()
        for packet_id in range(1, messages + 1):
            storage.push_message(packet_id, packet)
            storage.remove_message_by_mid(packet_id)
        return (clock() - began) / messages

    with steady_heap():
        (samples,) = interleave((keep_and_remove,), scale.rounds)
    assert storage.is_empty
    yield Figure("gmqtt_storage_qos1_us", median(samples) * 1e6, "us")


BENCHES = (
    *(Bench((f"amqtt_qos1_fanout{fanout}_us",), partial(_amqtt, fanout)) for fanout in _FANOUTS),
    Bench(("gmqtt_storage_qos1_us",), _gmqtt),
)
