"""What a sample says about the whole, with an interval. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Standard errors either side: 95 %.
Z = 1.96


def share(count: int, of: int) -> tuple[float, float, float]:
    """(share, low, high) of a count; Wilson's score interval, which holds for small counts and
    for none at all (E. B. Wilson 1927, JASA 22:209)."""
    if not of:
        return 0.0, 0.0, 1.0
    seen = count / of
    middle = (seen + Z * Z / (2 * of)) / (1 + Z * Z / of)
    margin = Z / (1 + Z * Z / of) * math.sqrt(seen * (1 - seen) / of + Z * Z / (4 * of * of))
    low = 0.0 if count == 0 else max(0.0, middle - margin)
    high = 1.0 if count == of else min(1.0, middle + margin)
    return seen, low, high


def mean(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high); of one value or none the interval is that value."""
    if not values:
        return 0.0, 0.0, 0.0
    middle = math.fsum(values) / len(values)
    if len(values) == 1:
        return middle, middle, middle
    spread = math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)
    margin = Z * math.sqrt(spread / len(values))
    return middle, max(0.0, middle - margin), middle + margin
