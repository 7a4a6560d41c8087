"""The state machine over a real socket: brokers held against the model by their packets alone."""

from __future__ import annotations

from typing import Any, ClassVar

import hypothesis
import pytest
from attrs import evolve

from examples.broker.configuration import DEFAULT_LIMITS, DEFAULT_OPTIONS
from mqtt_sessions import (
    ClientConnected,
    Event,
    ExpiryPolicy,
    OverlapPolicy,
    PingReceived,
    PublishReceived,
    PubrelReceived,
    ServerOptions,
    SessionLimits,
    SubscribeReceived,
    Subscription,
    UnsubscribeReceived,
)
from mqtt_sessions.testing.judge import Judge
from mqtt_sessions.testing.live import BrokerSubject
from mqtt_sessions.testing.machine import SessionStateMachine
from mqtt_sessions.testing.model_at_pubrel import ModelAtPubrel
from mqtt_sessions.testing.moves import REAL_TIME
from mqtt_sessions.testing.subjects import Subject
from mqtt_sessions.testing.transcript import Step

RUNS = hypothesis.settings(max_examples=40, stateful_step_count=40)
"""About 20 seconds for each broker."""


class TestExampleBroker(SessionStateMachine):
    """Nothing is left out: what holds for the store holds behind a socket."""

    limits = DEFAULT_LIMITS
    options = DEFAULT_OPTIONS
    profile = REAL_TIME
    settings = RUNS
    port: ClassVar[int]

    @pytest.fixture(autouse=True)
    def _at(self, example: int) -> None:
        type(self).port = example

    def subject(
        self, policy: ExpiryPolicy, limits: SessionLimits, options: ServerOptions
    ) -> BrokerSubject:
        return BrokerSubject("127.0.0.1", self.port)


# ---------------------------------------------------------------- Mosquitto


class MosquittoJudge(Judge):
    """Judges Mosquitto without what is known of it.

    Where a packet would lead to a difference of the table in tests/live/differences.py, it is
    changed as little as is needed; what Mosquitto does with the packet as it was is shown by the
    scenario. (That it hands QoS 2 on at PUBREL, NN-7.3, the model follows.)
    """

    def __init__(self, *settings: Any, **more: Any) -> None:
        super().__init__(*settings, **more)
        self._repeats: dict[tuple[str, int], int] = {}

    def feed(self, event: Event, now: float) -> Step:
        if isinstance(event, ClientConnected):
            # test_an_acknowledgement_gives_back_one_unit, test_a_refusal_gives_back_one_unit,
            # test_smaller_receive_maximum_bounds_what_is_sent_again,
            # test_refused_message_leaves_room_for_the_next
            event = evolve(event, receive_maximum=None)
        elif isinstance(event, SubscribeReceived):
            event = evolve(event, subscriptions=self._alike(event))
        elif isinstance(event, PublishReceived | PubrelReceived):
            event = self._once_again_at_most(event)
        elif isinstance(event, UnsubscribeReceived):
            # test_unsuback_of_a_dollar_filter_says_that_nothing_was_removed
            filters = tuple(each for each in event.topic_filters if each[0] != "$")
            event = evolve(event, topic_filters=filters or ("t",))
        return super().feed(event, now)

    def _alike(self, event: SubscribeReceived) -> tuple[Subscription, ...]:
        """Options that stay as they are, and overlapping subscriptions of one QoS in 3.1.1.

        test_repeated_subscribe_replaces_no_local, test_no_local_holds_for_retained_messages_too,
        test_overlapping_subscriptions_get_one_copy_at_the_highest_qos.
        """
        connection = self.model.connections[event.connection]
        assert connection.session is not None
        known = dict(connection.session.subscriptions)
        wanted = []
        for each in event.subscriptions:
            old = known.get(each.topic_filter, each)
            alike = evolve(
                each,
                qos=each.qos if connection.protocol_version == 5 else 1,
                no_local=old.no_local,
                retain_as_published=old.retain_as_published,
                retain_handling=2 if old.no_local else each.retain_handling,
            )
            known[each.topic_filter] = alike
            wanted.append(alike)
        return tuple(wanted)

    def _once_again_at_most(self, event: PublishReceived | PubrelReceived) -> Event:
        """test_qos_2_message_may_be_repeated_any_number_of_times."""
        session = self.model.connections[event.connection].session
        assert session is not None
        key = (session.client_id, event.packet_id or 0)
        if isinstance(event, PubrelReceived) or key[1] not in session.inbound:
            self._repeats.pop(key, None)
            return event
        self._repeats[key] = self._repeats.get(key, 0) + 1
        return event if self._repeats[key] == 1 else PingReceived(event.connection)


class Mosquitto(SessionStateMachine):
    """Without take-overs, wills, and peers that break rules."""

    model = ModelAtPubrel
    limits = SessionLimits(
        maximum_send_window=65_535,
        maximum_queued_messages=None,
        maximum_inbound_qos2=None,
        queue_qos0=False,  # `queue_qos0_messages false`
    )
    options = ServerOptions(
        receive_maximum=65_535,
        topic_alias_maximum=10,
        server_keep_alive=65_535,
        overlap=OverlapPolicy.EACH,
    )
    profile = evolve(REAL_TIME, versions=(5,), take_over=False, wills=False, hostile=False)
    settings = RUNS
    port: ClassVar[int]

    @pytest.fixture(autouse=True)
    def _at(self, mosquitto: int) -> None:
        type(self).port = mosquitto

    def subject(
        self, policy: ExpiryPolicy, limits: SessionLimits, options: ServerOptions
    ) -> BrokerSubject:
        return BrokerSubject("127.0.0.1", self.port)

    def judge_of(
        self,
        subject: Subject,
        policy: ExpiryPolicy,
        limits: SessionLimits,
        options: ServerOptions,
    ) -> Judge:
        return MosquittoJudge(subject, policy, limits, options, model=self.model, notes=False)


class TestMosquittoIn5(Mosquitto):
    """One copy for each subscription that matches."""


class TestMosquittoIn311(Mosquitto):
    """One copy for all of them (`allow_duplicate_messages false`)."""

    options = evolve(Mosquitto.options, overlap=OverlapPolicy.MERGE)
    profile = evolve(Mosquitto.profile, versions=(4,))


del Mosquitto  # so that it is not collected
