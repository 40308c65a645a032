"""Fresh packs or the search for culprits: which brings more captions, and does the day bind?"""

from __future__ import annotations

import pytest

from pipeline.packsize.auto import images_per_request
from pipeline.packsize.order import RECENT, WORTH_ASKING, day_binds, fresh_yields_more


def yields(size: int, refused: float) -> tuple[float, float]:
    """Expected captions of a pack of images not asked yet, and of half of a pack that was refused, by
    adding up what each number of culprits in each half comes to."""
    half, passes = size // 2, 1 - refused
    first_clean, second_clean = passes**half, passes ** (size - half)
    both = first_clean * second_clean
    return size * both, half * (first_clean - both) / (1 - both)


@pytest.mark.parametrize("size", [2, 8, 16, 32, 64])
@pytest.mark.parametrize("answered", [0.01, 0.1, 0.13, 0.14, 0.3, 0.7, 0.99])
def test_the_threshold_is_where_both_bring_the_same(size: int, answered: float) -> None:
    """`answered`: the chance of a whole pack, whatever its size."""
    fresh, half = yields(size, 1 - answered ** (1 / size))

    assert (fresh > half) == (answered > WORTH_ASKING)


@pytest.mark.parametrize(
    ("answered", "fresh"),
    [
        ((), True),
        ((False,) * (RECENT - 1), True),
        ((False,) * RECENT, False),
        ((*(False,) * (RECENT - 1), True), True),
    ],
)
def test_only_a_row_of_refusals_speaks_against_fresh_packs(
    answered: tuple[bool, ...], fresh: bool
) -> None:
    assert fresh_yields_more(answered) is fresh


def test_a_day_binds_where_its_requests_do_not_settle_all() -> None:
    """Searches counted: at 1 % refused images a request by packs of 32 settles 10.9."""
    settled = 50 * images_per_request(32, 0.01)[0]

    assert day_binds(int(settled) + 1, 50, size=32, refused=0.01)
    assert not day_binds(int(settled), 50, size=32, refused=0.01)
    assert not day_binds(1_600, 50, size=32, refused=0.0)
    assert day_binds(1_601, 50, size=32, refused=0.0)
