"""Agreement of captions, and who is audited."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.packsize.audit import (
    Agreement,
    agreement,
    chosen,
    compare,
    misplaced,
    summed,
    words_of,
)


def keys(count: int) -> list[str]:
    return [hashlib.sha256(str(n).encode()).hexdigest()[:32] for n in range(count)]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.5, 1.0])
def test_about_a_share_of_all_images_is_audited(share: float) -> None:
    """By a hash of the key: the same ones in every run, more of them for a larger share."""
    found = {key for key in keys(20_000) if chosen(key, share)}

    assert len(found) == pytest.approx(20_000 * share, rel=0.15)
    assert found <= {key for key in keys(20_000) if chosen(key, min(1.0, share * 2))}


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A red Bicycle, leaning.", ["a", "red", "bicycle", "leaning"]),
        ("it's 2 o’clock", ["it", "s", "2", "o", "clock"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("ｆｕｌｌ e\u0301", ["full", "é"]),
        ("猫が2匹", ["猫", "が", "2", "匹"]),
        ("แมว", ["แ", "ม", "ว"]),
        ("", []),
        ("…", []),
    ],
)
def test_words_of_a_caption(caption: str, words: list[str]) -> None:
    """Case, punctuation and form do not matter; unspaced scripts go by character."""
    assert words_of(caption) == words


@pytest.mark.parametrize(
    ("one", "other", "overlap", "length"),
    [
        ("A red cat.", "a RED cat", 1.0, 1.0),
        ("a red cat", "a red cat on a mat", 2 / 3, 0.5),
        ("a cat", "the dog", 0.0, 1.0),
        ("a a a a", "a", 0.4, 4.0),
        ("", "a", 0.0, 0.0),
        ("", "", 1.0, 1.0),
    ],
)
def test_agreement(one: str, other: str, overlap: float, length: float) -> None:
    """F1 of shared words, and the ratio of lengths."""
    found = agreement(one, other)

    assert (found.overlap, found.length) == (pytest.approx(overlap), pytest.approx(length))


@settings(deadline=None)
@given(st.text(), st.text())
def test_agreement_is_fair(one: str, other: str) -> None:
    """Between 0 and 1, the same both ways, 1 with itself."""
    assert 0 <= agreement(one, other).overlap <= 1
    assert agreement(one, other).overlap == agreement(other, one).overlap
    assert agreement(one, one).overlap == 1


SCENES = [
    f"A {size} {colour} {thing} {place}, seen in {light} light."
    for size in ("small", "large")
    for colour in ("red", "green", "blue")
    for thing in ("bicycle", "dog", "house")
    for place in ("by a river", "on a hill")
    for light in ("soft", "bright")
]


def test_swapped_captions_are_noticed_in_any_pack() -> None:
    """The single caption fits the neighbour's packed one better; others are left in peace, also
    when all captions are of one mould."""
    rng = random.Random(1)
    for _ in range(50):
        pack = rng.sample(SCENES, 8)
        # The model says it a little differently when asked alone.
        single = [caption.replace("seen in", "in") for caption in pack]
        for at in range(8):
            assert not misplaced(single[at], pack[at], pack[:at] + pack[at + 1 :])
        pack[0], pack[1] = pack[1], pack[0]
        if agreement(pack[0], pack[1]).overlap < 0.8:
            assert misplaced(single[0], pack[0], pack[1:])


def test_twins_in_a_pack_are_not_misplaced() -> None:
    """Images whose captions are alike cannot be told apart, and are not accused."""
    assert not misplaced("a red cat", "a red cat", ["a red cat", "a red cat on a mat"])


def test_packed_is_called_worse_only_beyond_chance() -> None:
    """A clear fall, by enough pairs, or captions on the wrong image."""

    def pairs(mean: float, count: int) -> list[Agreement]:
        rng = random.Random(count)
        return [
            Agreement(overlap=rng.uniform(mean - 0.2, mean + 0.2), length=1) for _ in range(count)
        ]

    assert compare(pairs(0.5, 100), pairs(0.7, 100)).worse
    assert not compare(pairs(0.68, 100), pairs(0.7, 100)).worse
    assert not compare(pairs(0.6, 3), pairs(0.7, 3)).worse
    assert not compare(pairs(0.5, 100)).worse
    assert compare(pairs(0.7, 100), pairs(0.7, 100), misplaced=1).worse
    assert not compare([], []).worse
    assert "smaller packs" in compare(pairs(0.5, 100), pairs(0.7, 100)).message()
    assert "another image" in compare(pairs(0.7, 100), misplaced=2).message()
    assert "single against" not in compare(pairs(0.7, 100)).message()


def test_a_summary_of_pairs() -> None:
    """Mean, standard error of the mean, median length."""
    found = summed([Agreement(overlap=o, length=n) for o, n in ((0.2, 1), (0.4, 9), (0.6, 2))])

    assert (found.pairs, found.mean, found.length) == (3, pytest.approx(0.4), 2)
    assert found.error == pytest.approx(0.2 / 3**0.5)
    assert summed([]).pairs == 0
    assert summed([Agreement(overlap=0.3, length=1)]).error == 0
