"""How much is tried: a little each time, as much as a night holds in `make weekly`.

`WEEKLY_N` random weeks (and a third as many random months) from the seed `WEEKLY_SEED` on, which
is another every week and stands in the first lines of the run: that seed makes them again.
"""

from __future__ import annotations

import os
import time
from typing import TypeVar

T = TypeVar("T")
#: Is this `make weekly`?
WEEKLY = bool(os.environ.get("WEEKLY"))
#: 1.3 s of CPU each: with all else in `make weekly` some three hours on two cores.
N = int(os.environ.get("WEEKLY_N", "3000"))
#: The same in all processes of a run: they inherit it.
SEED = int(os.environ.setdefault("WEEKLY_SEED", str(int(time.time()) // 604_800 * 10_000)))


def weekly(count: T, otherwise: T) -> T:
    """A number or a list in the weekly run, and in the others."""
    return count if WEEKLY else otherwise


def seeds(count: int) -> range:
    """So many seeds that no earlier week had."""
    return range(SEED, SEED + weekly(count, 1))
