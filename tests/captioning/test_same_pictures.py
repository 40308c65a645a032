"""What is remembered of equal pictures is bounded, in number and in bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.captioning import same_pictures
from pipeline.captioning.same_pictures import SamePictures
from pipeline.model import Item, Record
from tests.captioning.made import item

LONG = "x" * 200_000


def seen(number: int, picture: int) -> Item:
    made = item(number)
    return replace(made, asked=replace(made.asked, image_sha256=f"{picture:064x}"))


def captioned(asked: Item, caption: str) -> Record:
    key = asked.asked.key
    return Record(key=key, recipe="r", id=None, image="", caption=caption, status="ok")


def test_long_captions_are_not_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten and their equals asked; the last ones are still known."""
    monkeypatch.setattr(same_pictures, "MOST_BYTES", 1_000_000)
    pictures = SamePictures()
    for number in range(100):
        assert not pictures.waits(seen(number, number))
        pictures.landed([captioned(seen(number, number), LONG)])
        assert pictures.size < 1_300_000
    assert pictures.waits(seen(200, 99))
    assert not pictures.waits(seen(201, 0))
    assert [record.caption for group in pictures.copies() for record in group] == [LONG]


def test_where_many_wait_for_long_captions_the_rest_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits has its result for sure; what comes when all bytes are used is asked."""
    monkeypatch.setattr(same_pictures, "MOST_BYTES", 1_000_000)
    pictures, waiting = SamePictures(), 0
    for number in range(0, 200, 2):
        assert not pictures.waits(seen(number, number))
        pictures.landed([captioned(seen(number, number), LONG)])
        waiting += pictures.waits(seen(number + 1, number))
        assert pictures.size < 1_300_000
    groups = list(pictures.copies())
    assert 3 <= waiting == sum(map(len, groups)) <= 6


def test_copies_of_long_captions_come_in_small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_pictures, "TOGETHER_BYTES", 500_000)
    pictures = SamePictures()
    assert [pictures.waits(seen(number, 1)) for number in range(50)] == [False] + [True] * 49
    pictures.landed([captioned(seen(0, 1), LONG)])
    groups = list(pictures.copies())
    assert sum(map(len, groups)) == 49
    assert max(map(len, groups)) == 3


def test_groups_that_are_not_named_are_counted_as_images_and_pictures() -> None:
    """Images settled and pictures asked, so that requests can be reckoned from the lines."""
    pictures = SamePictures()
    for number in range(5 * 4):
        pictures.waits(seen(number, number % 5))
    assert pictures.sentences()[-1] == "8 more images are 2 pictures, asked once each"
