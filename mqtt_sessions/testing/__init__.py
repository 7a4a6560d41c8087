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

try:
    import hypothesis as _hypothesis  # noqa: F401
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "the testing kit needs Hypothesis: pip install 'mqtt-sessions[testing]'", name=missing.name
    ) from missing

from mqtt_sessions.testing import strategies
from mqtt_sessions.testing.batches import change_batches
from mqtt_sessions.testing.canonical import canonical
from mqtt_sessions.testing.clients import Client, ServerFault
from mqtt_sessions.testing.invariants import Violation, Watch
from mqtt_sessions.testing.journals import JournalConformance
from mqtt_sessions.testing.judge import Judge
from mqtt_sessions.testing.live import BrokerFault, BrokerSubject
from mqtt_sessions.testing.machine import SessionStateMachine
from mqtt_sessions.testing.model import Disagreement, Model
from mqtt_sessions.testing.model_at_pubrel import ModelAtPubrel
from mqtt_sessions.testing.moves import EVERYTHING, REAL_TIME, Profile
from mqtt_sessions.testing.search import Closure, RuleBroken, SearchTooLarge, explore
from mqtt_sessions.testing.search_world import Entry, Leaving, Peer, SmallWorld
from mqtt_sessions.testing.small_worlds import SMALL_WORLDS
from mqtt_sessions.testing.subjects import Journaled, Restored, Subject
from mqtt_sessions.testing.transcript import Failure, Step, sequence_diagram, transcript
from mqtt_sessions.testing.world import RunFailed, World

__all__ = [
    "EVERYTHING",
    "REAL_TIME",
    "SMALL_WORLDS",
    "BrokerFault",
    "BrokerSubject",
    "Client",
    "Closure",
    "Disagreement",
    "Entry",
    "Failure",
    "JournalConformance",
    "Journaled",
    "Judge",
    "Leaving",
    "Model",
    "ModelAtPubrel",
    "Peer",
    "Profile",
    "Restored",
    "RuleBroken",
    "RunFailed",
    "SearchTooLarge",
    "ServerFault",
    "SessionStateMachine",
    "SmallWorld",
    "Step",
    "Subject",
    "Violation",
    "Watch",
    "World",
    "canonical",
    "change_batches",
    "explore",
    "sequence_diagram",
    "strategies",
    "transcript",
]
