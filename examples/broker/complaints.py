"""What goes wrong, in one line each and not too often: a flood of errors must not fill a disk."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

__all__ = ["Complaints"]

log = logging.getLogger(__name__)

QUIET = 1.0
"""Seconds between two lines at least."""


class Complaints:
    """Logs at most one line in `QUIET` seconds, and in it how many were left out."""

    def __init__(self) -> None:
        self._quiet_until = 0.0
        self._untold = 0

    def tell(self, problem: str) -> None:
        """Log a problem, unless another was logged a moment ago."""
        now = time.monotonic()
        if now < self._quiet_until:
            self._untold += 1
            return
        more = f" (and {self._untold} problems not shown)" if self._untold else ""
        self._quiet_until, self._untold = now + QUIET, 0
        log.warning("%s%s", problem, more)

    def on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """For `loop.set_exception_handler`: what nobody caught, without a traceback."""
        problem = str(context["message"])
        error = context.get("exception")
        if isinstance(error, BaseException):
            problem += f": {error!r}{_place(error)}"
        self.tell(" ".join(problem.split()))


def _place(error: BaseException) -> str:
    """Where it was raised; nothing is read from a file for it, there may be no descriptor left."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
