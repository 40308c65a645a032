"""The images and pack sizes of a pilot. Pure."""

from __future__ import annotations

import random

#: Sizes of packs that a pilot tries, as far as they fit.
SIZES = (1, 4, 8, 16, 32)
#: Share of a pilot's images that is asked alone: each costs a request.
ALONE = 0.1


def spread_places(total: int, count: int, rng: random.Random) -> frozenset[int] | range:
    """`count` of the numbers below `total`, evenly spread from a random start, or all of them.

    Systematic sampling: a manifest is often sorted, and its first rows are like one another.
    """
    if total <= count:
        return range(total)
    start = rng.random()
    return frozenset(int((number + start) * total / count) for number in range(count))


def pilot_sizes(count: int, most: int, rng: random.Random) -> list[int]:
    """Sizes of the packs of a pilot of `count` images, in the order they go.

    most: images that fit one request. About a tenth of the images go alone, and the sizes of
    packs share the others evenly; none is tried that would take more than a third of them all.
    The order is drawn, so that no size meets only one end of the manifest.
    """
    packs = [size for size in SIZES[1:] if size <= min(most, count // 3)]
    if not packs:
        return [1] * count
    alone = max(1, round(count * ALONE))
    sizes = [1] * alone
    left = count - alone
    for place, size in enumerate(packs):
        share = left // (len(packs) - place)
        number = max(1, round(share / size))
        sizes += [size] * number
        left = max(0, left - number * size)
    rng.shuffle(sizes)
    return sizes
