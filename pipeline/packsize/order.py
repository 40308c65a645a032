"""What is asked first where a day's requests do not reach for all: images that nobody has asked yet, or the
search for the image because of which a pack was refused. Pure."""

from __future__ import annotations

from collections.abc import Collection
from math import sqrt

from pipeline.packsize.auto import images_per_request

#: Chance of a whole pack to be answered, from which on it brings more captions than half of a refused
#: one. With x the chance of half a pack of n, a whole one brings n x^2 captions, and half of a refused
#: one n/2 x (1 - x) / (1 - x^2) = n/2 x / (1 + x). The first is more where 2 x (1 + x) > 1, that is
#: x > (sqrt(3) - 1) / 2, whatever n is.
WORTH_ASKING = ((sqrt(3) - 1) / 2) ** 2
#: Packs from which that chance is taken: one answered of seven is 0.143, just above those 0.134. At 1 %
#: refused images seven packs of 32 in a row are refused once in 8,000 times, unless the service is at
#: fault, which only the search shows.
RECENT = 7


def fresh_yields_more(answered: Collection[bool]) -> bool:
    """Does a pack of images not asked yet bring more captions than half of a refused one? answered:
    the last packs, `RECENT` at most; fewer are not enough to doubt it."""
    return len(answered) < RECENT or sum(answered) / len(answered) > WORTH_ASKING


def day_binds(images: int, requests: int, *, size: int, refused: float) -> bool:
    """Are so many requests, all that the day still has, too few to settle so many images by packs of
    `size`, of which a share is refused?"""
    return images > requests * images_per_request(size, refused)[0]
