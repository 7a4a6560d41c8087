"""The store and the reference model, told the same, agree."""

from __future__ import annotations

import pytest

from mqtt_sessions import ExpiryPolicy, ServerOptions, SessionLimits

from .model_driver import Run


@pytest.mark.parametrize("seed", range(20))
def test_store_and_model_agree_with_the_defaults(seed: int) -> None:
    run = Run(seed, policy=ExpiryPolicy(), limits=SessionLimits(), options=ServerOptions())
    run.steps(100)
    assert run.model.step > 30
