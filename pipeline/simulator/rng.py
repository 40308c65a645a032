"""Chance that does not depend on the order of things.

Every request draws from its own source, made of the seed, the bytes of its body and how often
these very bytes came before. So two runs that send the same requests meet the same faults, even
when they send them in another order or at other times.
"""

from __future__ import annotations

import hashlib
import math
import random
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from statistics import NormalDist

from pipeline.simulator.knobs import Knobs

_REMEMBERED = 65_536
#: z of the 99th percentile of the normal distribution.
_Z99 = NormalDist().inv_cdf(0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The lots of one request, each from 0 to 1, and a source for what is left."""

    latency: float
    fault: float
    fault_kind: float
    lie: float
    lie_kind: float
    upstream: float
    rest: random.Random


class Luck:
    """Draws for requests."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._times: OrderedDict[bytes, int] = OrderedDict()

    def draw(self, body: bytes) -> Draw:
        """The lots of this request, the n-th with this body."""
        digest = hashlib.blake2b(body, digest_size=12).digest()
        nth = self._times.pop(digest, -1) + 1
        self._times[digest] = nth
        if len(self._times) > _REMEMBERED:
            self._times.popitem(last=False)
        text = b"%d/%s/%d" % (self._seed, digest.hex().encode(), nth)
        source = random.Random(hashlib.blake2b(text, digest_size=16).digest())
        return Draw(
            latency=source.random(),
            fault=source.random(),
            fault_kind=source.random(),
            lie=source.random(),
            lie_kind=source.random(),
            upstream=source.random(),
            rest=source,
        )


def one_of(names: tuple[str, ...], lot: float) -> str:
    """The name that a lot falls on."""
    return names[min(len(names) - 1, int(lot * len(names)))]


def latency(knobs: Knobs, lot: float, images: int) -> float:
    """Seconds that a reply takes."""
    low, high = knobs.latency
    if knobs.latency_shape == "uniform" or low <= 0:
        own = low + (high - low) * lot
    else:
        spread = math.log(high / low) / _Z99
        own = low * math.exp(spread * NormalDist().inv_cdf(min(max(lot, 1e-9), 1 - 1e-9)))
    return own + knobs.latency_per_image * images


class Bursts:
    """Times at which the upstream provider is overrun: exponential quiets and bursts, seeded."""

    def __init__(self, seed: int, start: float) -> None:
        self._rng = random.Random(f"upstream {seed}")
        self._edges = [start]

    def on(self, knobs: Knobs, now: float) -> bool:
        """Is there a burst at `now`? The times are laid out once, in order, for good."""
        if knobs.upstream_quiet is None:
            return False
        while self._edges[-1] <= now:
            quiet = len(self._edges) % 2 == 1
            mean = knobs.upstream_quiet if quiet else knobs.upstream_burst
            self._edges.append(self._edges[-1] + self._rng.expovariate(1 / max(mean, 1e-3)))
        passed = bisect_right(self._edges, now)
        return passed > 0 and passed % 2 == 0

    def ends_at(self, now: float) -> float:
        """The end of the burst at `now`."""
        return self._edges[min(bisect_right(self._edges, now), len(self._edges) - 1)]
