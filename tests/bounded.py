"""How many examples a property-based test tries."""

from __future__ import annotations

import pytest
from hypothesis import settings

__all__ = ["bound_examples"]


def bound_examples(item: pytest.Item, most: int) -> None:
    """Let a test, a function or a test case with `settings`, try no more than so many.

    What a test does with Hypothesis inside, such as to find a fault that is there on purpose, is
    left alone.
    """
    if not isinstance(item, pytest.Function):
        return
    case = item.getparent(pytest.Class)
    holder, name = item.obj, "_hypothesis_internal_use_settings"
    if case is not None:
        holder, name = case.obj, "settings"
    if not hasattr(holder, name):
        return
    own = getattr(holder, name) or settings.default
    if isinstance(own, settings) and own.max_examples > most:
        setattr(holder, name, settings(own, max_examples=most))
