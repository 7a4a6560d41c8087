"""Keeping the garbage collector away from what is made to stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["uncollected"]


@contextmanager
def uncollected() -> Iterator[None]:
    """While millions of objects are made that all stay, nothing is searched for garbage.

    Behind it they count as old. Else the next searches, each of which looks at all that is young,
    would stop the host for as long as a good part of the making took. Where the host has frozen
    objects they stay frozen, and the new ones young.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()  # all objects to the permanent generation, none of which is looked at ...
            gc.unfreeze()  # ... and from there to the oldest
        gc.enable()
