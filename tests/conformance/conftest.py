"""The ledger is read once: it takes a second."""

from __future__ import annotations

import pytest

from .ledger import Ledger, read


@pytest.fixture(scope="session", name="ledger")
def _ledger() -> Ledger:
    return read()
