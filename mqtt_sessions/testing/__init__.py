"""Tests for session layers: a reference model, a state machine, small worlds, a simulation.

    from mqtt_sessions.testing import REAL_TIME, BrokerSubject, SessionStateMachine

    class TestBroker(SessionStateMachine):
        profile = REAL_TIME

        def subject(self, policy, limits, options):
            return BrokerSubject("127.0.0.1", 1883)

For users' own tests: `pip install 'mqtt-sessions[testing]'`. Nothing in the library imports it.
`python -m mqtt_sessions.testing` runs the simulation.
"""

from __future__ import annotations

from mqtt_sessions.testing import strategies
from mqtt_sessions.testing.canonical import canonical
from mqtt_sessions.testing.clients import Client, ServerFault
from mqtt_sessions.testing.invariants import Violation, Watch
from mqtt_sessions.testing.judge import Judge
from mqtt_sessions.testing.live import BrokerFault, BrokerSubject
from mqtt_sessions.testing.machine import SessionStateMachine
from mqtt_sessions.testing.model import Disagreement, Model
from mqtt_sessions.testing.model_at_pubrel import ModelAtPubrel
from mqtt_sessions.testing.moves import EVERYTHING, REAL_TIME, Profile
from mqtt_sessions.testing.search import Closure, RuleBroken, explore
from mqtt_sessions.testing.search_world import Entry, Leaving, Peer, SmallWorld
from mqtt_sessions.testing.subjects import Restored, Subject
from mqtt_sessions.testing.transcript import sequence_diagram, transcript
from mqtt_sessions.testing.world import RunFailed, World

__all__ = [
    "EVERYTHING",
    "REAL_TIME",
    "BrokerFault",
    "BrokerSubject",
    "Client",
    "Closure",
    "Disagreement",
    "Entry",
    "Judge",
    "Leaving",
    "Model",
    "ModelAtPubrel",
    "Peer",
    "Profile",
    "Restored",
    "RuleBroken",
    "RunFailed",
    "ServerFault",
    "SessionStateMachine",
    "SmallWorld",
    "Subject",
    "Violation",
    "Watch",
    "World",
    "canonical",
    "explore",
    "sequence_diagram",
    "strategies",
    "transcript",
]
