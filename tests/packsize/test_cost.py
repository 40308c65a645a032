"""Estimates of tokens and bytes, against the published figures."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model import Image
from pipeline.packsize import cost
from tests.captioning.made import item


@pytest.mark.parametrize(
    ("width", "height", "tiles"),
    [
        (1, 1, 1),
        (384, 384, 1),
        (385, 100, 2),
        (960, 540, 6),
        (768, 768, 4),
        (768, 512, 6),
        (3072, 3072, 16),
        (12_000, 9_000, 12),
    ],
)
def test_tiles_of_an_image(width: int, height: int, tiles: int) -> None:
    """960 x 540 is the documents' own example: six tiles, 1,548 tokens."""
    assert cost.tile_tokens(width, height) == tiles * 258
    assert cost.image_tokens(width, height) == tiles * 258


@settings(deadline=None)
@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_an_image_never_costs_less_than_by_either_rule(width: int, height: int) -> None:
    """The larger estimate counts, and it does not depend on orientation."""
    found = cost.image_tokens(width, height)

    assert found >= max(cost.flat_tokens(), cost.tile_tokens(width, height))
    assert found == cost.image_tokens(height, width)


def test_an_image_of_unknown_size_costs_six_tiles() -> None:
    """A URL passed on tells nothing about its pixels."""
    assert cost.item_tokens(Image(url="https://a.example/b")) == 6 * 258 + cost.PART_TOKENS
    assert cost.item_bytes(Image(url="https://a.example/b")) == 0
    assert cost.item_bytes(Image(data=b"abc")) == 3


def test_text_in_any_script_is_not_estimated_too_low() -> None:
    """English has some four characters a token, Chinese about one."""
    assert cost.text_tokens("word " * 100) >= 125
    assert cost.text_tokens("猫" * 100) >= 100
    assert cost.text_tokens("\ud800") >= 1


@pytest.mark.parametrize(
    ("max_tokens", "tokens"), [(None, 120), (300, 120), (60, 68), (True, 120), ("x", 120), (0, 8)]
)
def test_a_short_max_tokens_bounds_a_caption(max_tokens: object, tokens: int) -> None:
    """A caption is not reckoned longer than the job lets it be."""
    assert cost.caption_tokens(max_tokens) == tokens


def test_a_shared_prompt_counts_once() -> None:
    """A request's estimate: its images, each prompt that differs, the system message."""
    long = "word " * 300
    shared = cost.request_tokens([item(n, prompt=long) for n in range(4)], "pack")
    own = cost.request_tokens([item(n, prompt=f"{n}{long}") for n in range(4)], "pack")
    system = cost.request_tokens([item(1)], "plain", system=cost.system_tokens(long))

    assert shared[0] == 4 * (258 + cost.PART_TOKENS) + cost.text_tokens(long) + cost.PACK_TOKENS
    assert own[0] - shared[0] >= 3 * cost.text_tokens(long)
    assert shared[1] == 4 * cost.CAPTION_TOKENS
    assert system[0] - cost.request_tokens([item(1)], "plain")[0] == cost.text_tokens(long)
