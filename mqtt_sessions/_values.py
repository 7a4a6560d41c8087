"""How every public value class is declared.

To the type checker a value is frozen. At run time it is an ordinary slotted class, because
`object.__setattr__`, which a frozen class pays for each field, makes construction almost four
times as slow. Values are hashable and compare by value; nobody may assign to their fields.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrs import frozen as value
else:
    import attrs

    value = partial(attrs.define, slots=True, weakref_slot=False, unsafe_hash=True)

__all__ = ["hidden_bytes", "value"]


def hidden_bytes(data: bytes | None) -> str:
    """The size of a payload, which is all that a `repr` may show of it."""
    return "None" if data is None else f"<{len(data)} bytes>"
