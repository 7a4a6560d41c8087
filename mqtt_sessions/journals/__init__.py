"""Journals: where the changes of a store become durable. The only place that does I/O."""

from mqtt_sessions.journals.contract import Journal, JournalError, JournalUnusable, Quarantined

__all__ = ["Journal", "JournalError", "JournalUnusable", "Quarantined"]
