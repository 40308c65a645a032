"""The forecast of captions a request against the pool itself, simulated."""

from __future__ import annotations

import pytest

from pipeline.plan import expect
from tests.plan.test_pack import captions_a_request as simulated


@pytest.mark.parametrize("refused", [0.0, 0.005, 0.01, 0.05, 0.1])
@pytest.mark.parametrize("size", [1, 4, 16, 32])
def test_the_forecast_is_near_what_the_pool_does(size: int, refused: float) -> None:
    """Within a tenth, from single images to packs of 32."""
    seen = sum(simulated(size, refused, 3200, seed, 8) for seed in (1, 2, 3)) / 3

    assert expect.captions_a_request(size, refused) == pytest.approx(seen, rel=0.1)
