"""Journals: where the changes of a store become durable. The only place that does I/O."""

from mqtt_sessions.journals.contract import Journal, JournalError, JournalUnusable, Quarantined
from mqtt_sessions.journals.memory import MemoryJournal
from mqtt_sessions.journals.sqlite import SQLiteJournal
from mqtt_sessions.journals.threaded import ThreadedJournal

__all__ = [
    "Journal",
    "JournalError",
    "JournalUnusable",
    "MemoryJournal",
    "Quarantined",
    "SQLiteJournal",
    "ThreadedJournal",
]
