"""Polish: what each setting does, and what it leaves alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checks.polish import PolishSettings, polished
from tests.checks.examples import GOOD, TRUE

ALL = PolishSettings(opening=True, blanks=True, sentences=True, one_line=True)
#: Setting, caption, what becomes of it.
POLISHED = [
    ("opening", "The image shows a black cat.", "A black cat."),
    ("opening", "This black-and-white photograph depicts a steam train.", "A steam train."),
    ("opening", "In this image, we can see a man.", "A man."),
    ("opening", "Caption: A cat asleep.", "A cat asleep."),
    ("opening", "**Description:** A frosty window.", "A frosty window."),
    ("opening", "An image of a woman with an umbrella.", "A woman with an umbrella."),
    ("opening", "The image", "The image"),
    ("opening", "A picture hangs above the fireplace.", "A picture hangs above the fireplace."),
    ("opening", "The painter stands before his canvas.", "The painter stands before his canvas."),
    ("blanks", "A  cat \t on a\u00a0mat. ", "A cat on a mat."),
    ("blanks", "A sign: “Open”, it’s red.", 'A sign: "Open", it\'s red.'),
    ("blanks", "One\n\n  two", "One\n\n two"),
    ("sentences", "A cat sleeps. Behind it stands a", "A cat sleeps."),
    ("sentences", "A cat sleeps on a", "A cat sleeps on a"),
    ("sentences", 'A sign that says "Stop!" Behind', 'A sign that says "Stop!"'),
    ("sentences", "Mr. Smith waves at 3.5 people and", "Mr. Smith waves at 3.5 people and"),
    ("sentences", "猫在睡觉。后面有一", "猫在睡觉。"),
    ("sentences", "A cat sleeps.", "A cat sleeps."),
    ("one_line", "A cat.\n\n  A dog.\r\nA bird.", "A cat. A dog. A bird."),
]


@pytest.mark.parametrize(("name", "caption", "expected"), POLISHED)
def test_what_each_setting_does(name: str, caption: str, expected: str) -> None:
    assert polished(caption, PolishSettings(**{name: True})) == expected
    assert polished(caption, PolishSettings()) == caption


def test_good_captions_stay_as_they_are() -> None:
    assert [polished(caption, ALL) for caption in GOOD] == GOOD


@given(st.text(min_size=1) | st.sampled_from([text for texts in TRUE.values() for text in texts]))
def test_polish_leaves_something_and_is_done_once(caption: str) -> None:
    once = polished(caption, ALL)

    assert once
    assert "\n" not in once.strip() or once == caption
