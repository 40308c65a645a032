"""`images_per_request: auto`: how many images a request should hold, from what was measured.

Three things decide. A refused image spoils its pack, and finding it costs requests
(`images_per_request` is the exact expectation for the pool's binary search). The more images a
pack holds, the more of them come back without a usable entry, cut off, left out or numbered
wrongly: that share is taken to grow in proportion to the pack. And no pack exceeds the model's
context, its longest answer, or 14 MB of images. Of all sizes the one with the most captions a
request is chosen; what was measured is mixed with a prior that a few hundred images outweigh.

Measured facts are plain counts that add up, so that they can be kept per model across runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from functools import lru_cache
from operator import add, attrgetter

from pipeline.model import Record, Sent
from pipeline.packsize import cost
from pipeline.packsize.limits import PackLimits
from pipeline.values import dataclass
from pipeline.verdict import Kind

#: Sizes of packs until enough was measured; and the largest that is ever chosen: beyond it
#: nobody has looked at what becomes of the captions.
FIRST, LARGEST = 16, 64
#: Images answered in packs after which twice the largest size tried so far may be tried.
ENOUGH = 256
#: Prior: so many images, of which so many are refused.
PRIOR_IMAGES, PRIOR_REFUSED = 200.0, 1.0
#: Prior: so many packs of 16, of which each loses so many images.
PRIOR_PACKS, PRIOR_LOST = 8.0, 0.1
#: Shares of refused images for which `plan` says what a day gives.
SHARES = (0.0, 0.01, 0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Counts of what a model did so far; all of them only grow, and two add up."""

    #: Images settled, alone or packed, and those of them that the service refused.
    settled: int = 0
    refused: int = 0
    #: Packs that were answered (not refused), their images, and the sum of their squared sizes.
    packs: int = 0
    packed: int = 0
    squares: int = 0
    #: Images of answered packs without a usable entry; in packs that were cut, and in all others.
    cut: int = 0
    lost: int = 0
    #: The largest pack that was answered.
    largest: int = 0
    #: Output tokens of answered packs, and the captions that they brought.
    tokens_out: int = 0
    captions: int = 0
    #: Input tokens and bytes (before base64) of images sent in packs.
    tokens_in: int = 0
    raw_bytes: int = 0

    def __add__(self, other: Measured) -> Measured:
        both = dict(zip(_NAMES, map(add, _values(self), _values(other)), strict=True))
        both["largest"] = max(self.largest, other.largest)
        return Measured(**both)

    def to_plain(self) -> dict[str, int]:
        """For a JSON file."""
        return asdict(self)

    @classmethod
    def of_plain(cls, stored: Mapping[str, object]) -> Measured:
        """From a JSON file; what it does not hold, or holds wrongly, counts as 0."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in stored.items() if k in known and type(v) is int and v >= 0})


#: Before anything was measured.
NOTHING = Measured()
_NAMES = tuple(field.name for field in fields(Measured))
_values: Callable[[Measured], tuple[int, ...]] = attrgetter(*_NAMES)

#: Codes of images that the service looked at and would not have.
REFUSED = frozenset({"refused", "safety", "image_rejected"})


def measure(
    sent: Sent,
    kind: Kind,
    records: Iterable[Record],
    *,
    prompt_tokens: int | None = None,
    completion_tokens: int | None = None,
    raw_bytes: int = 0,
) -> Measured:
    """What one reply adds to the counts."""
    captions, refused, size = 0, 0, len(sent.items)
    for record in records:
        captions += record.status == "ok"
        refused += record.error_code in REFUSED
    if size == 1 or kind not in (Kind.OK, Kind.TRUNCATED):
        return Measured(settled=captions + refused, refused=refused)
    missed = size - captions
    return Measured(
        settled=captions + refused,
        refused=refused,
        packs=1,
        packed=size,
        squares=size * size,
        cut=missed if kind is Kind.TRUNCATED else 0,
        lost=missed if kind is Kind.OK else 0,
        largest=size,
        tokens_out=completion_tokens or 0,
        captions=captions if completion_tokens else 0,
        tokens_in=prompt_tokens or 0,
        raw_bytes=raw_bytes,
    )


#: Shares nearer to 0 or 1 than this are beyond what floats can tell apart below.
_TINY = 1e-9


@lru_cache(maxsize=4096)
def images_per_request(size: int, refused: float) -> tuple[float, float]:
    """Expected (images settled, captions) in one request, by packs of `size` of which a share is
    refused, when culprits are found as `pack.Pool` finds them."""
    if size == 1 or refused < _TINY:
        return float(size), size * (1 - refused)
    passes = 1 - min(refused, 1 - _TINY)
    searched = search(size, refused)
    whole = passes**size
    requests = 1 + (1 - whole) * searched[0]
    captions = whole * size + (1 - whole) * searched[1]
    return (captions + (1 - whole)) / requests, captions / requests


@lru_cache(maxsize=4096)
def search(size: int, refused: float) -> tuple[float, float]:
    """Expected (requests, captions on the way) until the culprit is found among so many images that
    must hold one, a share of all images being refused."""
    passes = 1 - min(max(refused, _TINY), 1 - _TINY)
    searches = [(0.0, 0.0), (1.0, 0.0)]
    for group in range(2, size + 1):
        half = group // 2
        rest = group - half
        clean = passes**half * (1 - passes**rest) / (1 - passes**group)
        after, gained = searches[rest]
        # A single image that is refused when asked is found: no request comes after it.
        inside, share = searches[half] if half > 1 else (0.0, 0.0)
        searches.append(
            (
                1 + clean * after + (1 - clean) * inside,
                clean * (half + gained) + (1 - clean) * share,
            )
        )
    return searches[size]


def rates(measured: Measured) -> tuple[float, float]:
    """(share of refused images, share of images that a pack loses for each image it holds)."""
    refused = (measured.refused + PRIOR_REFUSED) / (measured.settled + PRIOR_IMAGES)
    squares = measured.squares + PRIOR_PACKS * FIRST**2
    loses = (measured.lost + measured.cut + PRIOR_PACKS * PRIOR_LOST) / squares
    return min(refused, 1.0), min(loses, 1.0)


def refused_share(measured: Measured, packs: int, images: int) -> float:
    """Share of refused images, where so many packs, with so many images left of them, were refused too
    and not searched to the end: each holds a culprit that was not counted."""
    return rates(measured + Measured(settled=images, refused=packs))[0]


def expected(size: int, refused: float, loses: float = 0.0) -> float:
    """Expected captions a request by packs of `size`."""
    if size == 1:
        return 1 - refused
    return images_per_request(size, refused)[1] * max(0.0, 1 - loses * size)


def room(limits: PackLimits, measured: Measured = NOTHING) -> int:
    """The most images that fit one request, by what images and captions took so far."""
    caption = float(limits.caption_tokens)
    if measured.captions >= ENOUGH:
        caption = 1.5 * measured.tokens_out / measured.captions
    image, tokens_in = float(cost.UNKNOWN_IMAGE_TOKENS), limits.tokens_in - limits.system_tokens
    size = 0.0
    if measured.packed >= ENOUGH:
        tokens_in = limits.tokens_in  # the system prompt is in what was measured
        image = 1.25 * measured.tokens_in / measured.packed or image
        size = 1.25 * measured.raw_bytes / measured.packed
    fits = [limits.most, limits.tokens_out / max(1.0, caption), tokens_in / max(1.0, image)]
    if size:
        fits.append(limits.raw_bytes / size)
    return max(1, int(min(fits)))


def choose(limits: PackLimits, measured: Measured = NOTHING) -> int:
    """The number of images a request for which the most captions a request are expected.

    limits: of the model; its own `images` does not count. Without measurements it is 16 where
    that fits. It grows at most twofold beyond the largest pack that was answered.
    """
    most = FIRST
    if measured.packed >= ENOUGH:
        most = max(FIRST, 2 * measured.largest)
    most = min(most, room(limits, measured), LARGEST)
    refused, loses = rates(measured)
    return max(range(1, most + 1), key=lambda size: (expected(size, refused, loses), size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a day gives, if so many images are refused."""

    refused: float
    #: Images in a request.
    size: int
    captions_per_request: float
    #: None where no daily limit is known.
    captions_per_day: int | None


def forecasts(
    size: int | None,
    *,
    requests_per_day: int | None,
    limits: PackLimits,
    measured: Measured = NOTHING,
    shares: Iterable[float] = SHARES,
) -> tuple[Forecast, ...]:
    """The table for `plan`: captions a day at these shares of refused images.

    size: images a request; None for auto, which chooses for each share. Nothing is taken off
    for packs that lose images unless that was measured.
    """
    loses = rates(measured)[1] if measured.packs else 0.0
    most = min(room(limits, measured), LARGEST)
    results = []
    for share in shares:
        best = size
        if best is None:
            best = max(range(1, most + 1), key=lambda n: (expected(n, share, loses), n))
        captions = expected(best, share, loses)
        day = None if requests_per_day is None else int(captions * requests_per_day)
        results.append(
            Forecast(refused=share, size=best, captions_per_request=captions, captions_per_day=day)
        )
    return tuple(results)
