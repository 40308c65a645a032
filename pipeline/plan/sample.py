"""The images and pack sizes of a pilot. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator

#: Sizes of packs that a pilot tries, as far as they fit.
SIZES = (1, 4, 8, 16, 32)
#: Share of a pilot's images that is asked alone: each costs a request.
ALONE = 0.1


def keep_spread(bits: bytearray, count: int, rng: random.Random) -> int:
    """Keep `count` of the set bits, evenly spread from a random start; returns how many are left.

    Systematic sampling: a manifest is often sorted, and its first rows are like one another.
    """
    total = sum(byte.bit_count() for byte in bits)
    if total <= count:
        return total
    wanted = _evenly(total, count, rng.random())
    following, seen = next(wanted), 0
    for index, byte in enumerate(bits):
        if not byte:
            continue
        kept = 0
        for bit in range(8):
            if byte >> bit & 1:
                if seen == following:
                    kept |= 1 << bit
                    following = next(wanted, -1)
                seen += 1
        bits[index] = kept
    return count


def _evenly(total: int, count: int, start: float) -> Iterator[int]:
    return (int((number + start) * total / count) for number in range(count))


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
