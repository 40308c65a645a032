"""Captions a request, expected: what packing gives when some images are refused.

A pack of n is refused as a whole when one of its images is. The pool then searches by halving,
asking one half at each level and never the half that must hold the culprit (`pack.py`), so a
refused pack costs about log2(n) + 1 requests more and still captions its other images.
"""

from __future__ import annotations

import math


def captions_a_request(size: int, refused: float) -> float:
    """Expected captions a request for packs of `size` at a share of refused images.

    Exact for size 1 and for no refusals; else the model above, within 8 % of the pool
    simulated (`tests/plan/test_expect.py`).
    """
    good = 1 - refused
    if size == 1 or refused == 0:
        return size * good
    bad_packs = 1 - good**size
    # One culprit in a refused pack is found by one request a level and one for itself alone.
    search = math.log2(size) + 1
    # Halves of which nothing is known travel again, with others: half of each level's images.
    again = bad_packs * (size - 1) / size * 0.5
    per_pack = 1 + bad_packs * search * (refused * size / bad_packs)
    return size * good / (per_pack + again)
