"""`dataclass` for values that are made once for every image or request.

A frozen dataclass sets each field through `object.__setattr__`, which makes a record of 31 fields
five times as slow to build (6.3 against 1.3 µs). Here `frozen=True` is kept by the type checker,
which refuses every assignment, and left out when the program runs; equality and hash stay those
of the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses

    def dataclass(*, slots, frozen=False, kw_only=False):
        """`dataclasses.dataclass`, frozen on paper."""
        return dataclasses.dataclass(slots=slots, kw_only=kw_only, unsafe_hash=frozen)


__all__ = ["dataclass"]
