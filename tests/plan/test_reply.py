"""Captions out of what models write: every complete entry is kept, none is guessed."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan.reply import clean_caption, parse_pack, share
from pipeline.sim import lies


def listed(count: int) -> list[dict[str, object]]:
    return [{"image": n, "caption": f"This is image {n}."} for n in range(1, count + 1)]


def right(captions: dict[int, str]) -> bool:
    return all(text == f"This is image {number}." for number, text in captions.items())


WHOLE = json.dumps({"captions": listed(4)})
FORMS = {
    "plain": WHOLE,
    "fenced": f"```json\n{WHOLE}\n```",
    "prose": f"Sure! Here they are:\n{WHOLE}\nAnything else?",
    "trailing commas": WHOLE.replace("}]", "},]"),
    "bare list": json.dumps(listed(4)),
    "indented": json.dumps({"captions": listed(4)}, indent=2),
    "numbers as text": WHOLE.replace('"image": 1', '"image": "1"'),
    "another order": json.dumps({"captions": listed(4)[::-1]}),
    "said twice alike": json.dumps({"captions": listed(4) + listed(1)}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_reply_is_read_in_every_form(form: str) -> None:
    """Fences, prose, commas, order: all four captions, each at its number."""
    found = parse_pack(FORMS[form], 4)

    assert set(found.captions) == {1, 2, 3, 4}
    assert right(found.captions)


LIES = {
    "one object": (json.dumps(listed(4)[2]), {3}),
    "dropped": (json.dumps({"captions": listed(4)[:2] + listed(4)[3:]}), {1, 2, 4}),
    "numbered from 0": (
        json.dumps({"captions": [{**e, "image": e["image"] - 1} for e in listed(4)]}),
        set(),
    ),  # type: ignore[operator] # numbers in a test's dict
    "unknown number": (
        json.dumps({"captions": [*listed(3), {"image": 9, "caption": "x"}]}),
        {1, 2, 3},
    ),
    "repeated otherwise": (
        json.dumps({"captions": [*listed(4), {"image": 2, "caption": "x"}]}),
        {1, 3, 4},
    ),
    "empty caption": (
        json.dumps({"captions": [*listed(3), {"image": 4, "caption": " "}]}),
        {1, 2, 3},
    ),
    "no number": (json.dumps({"captions": [{"caption": "This is image 1."}]}), set()),
    "boolean number": (json.dumps({"captions": [{"image": True, "caption": "x"}]}), set()),
    "nothing": ("", set()),
    "prose alone": ("I cannot see any images.", set()),
    "null": ('{"captions": null}', set()),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_not_certain_is_not_guessed(lie: str) -> None:
    """Only the entries whose number is beyond doubt are kept."""
    text, kept = LIES[lie]
    found = parse_pack(text, 4)

    assert set(found.captions) == kept
    assert right(found.captions)
    assert found.trouble


@pytest.mark.parametrize("text", [WHOLE, json.dumps({"captions": listed(4)}, indent=1)])
def test_cut_at_every_byte_keeps_every_complete_entry(text: str) -> None:
    """However short the reply, no caption stands at a wrong number, and none that is whole is lost."""
    for end in range(len(text)):
        found = parse_pack(text[:end], 4)
        assert right(found.captions), end
        complete = sum(
            text[:end].count(f"image {n}.") and text[:end].find("}", text.find(f"image {n}.")) > 0
            for n in range(1, 5)
        )
        assert len(found.captions) == complete, end


@given(
    st.randoms(use_true_random=False),
    st.sampled_from(
        ["drop", "repeat", "zero_based", "cut", "prose", "one_object", "fences", "comma"]
    ),
    st.integers(2, 40),
)
def test_no_lie_but_a_clean_swap_puts_a_caption_on_the_wrong_image(
    rng: random.Random, lie: str, count: int
) -> None:
    """Whatever the simulator's lies make of a reply, what is kept is right."""
    found = parse_pack(lies.told(lie, listed(count), rng), count)

    assert right(found.captions)


@given(st.text(), st.integers(1, 5))
def test_any_text_is_read_without_an_exception(text: str, count: int) -> None:
    """Numbers are in range and captions are never empty."""
    found = parse_pack(text, count)

    assert all(1 <= n <= count and caption for n, caption in found.captions.items())


@given(st.text(st.characters()))
def test_a_clean_caption_can_be_stored(text: str) -> None:
    """No NUL, no control characters, no lone surrogate; UTF-8 takes it."""
    clean = clean_caption(text)

    clean.encode()
    assert "\x00" not in clean
    assert clean == clean.strip()


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("  A cat. \n", "A cat."),
        ('"A cat."', "A cat."),
        ("“A cat.”", "A cat."),
        ("```\nA cat.\n```", "A cat."),
        ('"A" and "B"', '"A" and "B"'),
        ("A\x00 \ud800cat\x1b[0m", "A cat[0m"),
    ],
)
def test_a_caption_is_freed_of_its_wrapping(text: str, caption: str) -> None:
    """Space, quotes around all of it, a fence, control characters."""
    assert clean_caption(text) == caption


@given(st.integers(0, 10**9), st.integers(1, 100))
def test_shares_add_up_to_the_whole(total: int, count: int) -> None:
    """No token is lost or made by sharing it out."""
    shares = share(total, count)

    assert sum(s for s in shares if s is not None) == total
    assert max(shares) - min(shares) <= 1  # type: ignore[type-var,operator] # no None for a number
