"""What a journal holds, for those who run a broker: `python -m mqtt_sessions.inspect FILE`.

From Python, with the rows of any journal: `summarize` for all of it, `look_up` for one client.
"""

from mqtt_sessions.inspect.client import ClientReport, look_up
from mqtt_sessions.inspect.summary import Due, SessionSummary, Summary, Totals, summarize

__all__ = [
    "ClientReport",
    "Due",
    "SessionSummary",
    "Summary",
    "Totals",
    "look_up",
    "summarize",
]
