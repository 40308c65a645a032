"""The rule that ends a run in which the service says no to everything."""

from __future__ import annotations

import pytest

from pipeline.errors import Exit, StopReason
from pipeline.ratelimit.rules.base import NEVER
from pipeline.ratelimit.rules.fail_fast import REQUESTS as IMAGES
from pipeline.ratelimit.rules.fail_fast import FailFast
from pipeline.verdict import OPEN as REFUSED
from pipeline.verdict import Kind
from tests.ratelimit.rules import Play, setup

OTHERS = sorted(set(Kind) - REFUSED - {Kind.OK, Kind.TRUNCATED, Kind.REFUSED, Kind.SAFETY})


def refused(play: Play, count: int, kind: Kind = Kind.BAD_REQUEST, first: int = 0) -> None:
    for number in range(first, first + count):
        play.once(float(number), kind, images=(f"image {number}",), message="no such field")


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_ten_images_refused_and_none_answered_end_the_run(kind: Kind) -> None:
    """Not nine; 69, with the service's words and what to look at."""
    play = Play(FailFast(setup()))
    refused(play, IMAGES - 1, kind)
    assert play.opens(50.0) == 50.0
    refused(play, 1, kind, first=IMAGES)
    stop = play.opens(50.0)

    assert isinstance(stop, StopReason)
    assert stop.exit is Exit.SERVICE
    assert "no such field" in stop.message
    assert kind is Kind.NO_ROOM or "endpoint.params" in stop.message


@pytest.mark.parametrize("answer", [Kind.OK, Kind.TRUNCATED, Kind.REFUSED, Kind.SAFETY])
@pytest.mark.parametrize("before", [0, IMAGES - 1, IMAGES])
def test_one_answer_is_enough_for_the_whole_run(answer: Kind, before: int) -> None:
    """Whenever it came: from then on refusals are the images' own, however many."""
    play = Play(FailFast(setup()))
    refused(play, before)
    play.once(20.0, answer)
    refused(play, 5 * IMAGES, first=100)

    assert play.opens(500.0) == 500.0


def test_one_image_is_one_however_often_it_is_asked() -> None:
    """Ten attempts at a broken picture say nothing of the service."""
    play = Play(FailFast(setup()))
    for _ in range(5 * IMAGES):
        play.once(1.0, Kind.BAD_REQUEST, images=("the same",))

    assert play.opens(2.0) == 2.0


def test_packs_say_nothing() -> None:
    """One bad image spoils a pack; the search comes down to images alone."""
    play = Play(FailFast(setup()))
    for number in range(5 * IMAGES):
        play.once(1.0, Kind.BAD_REQUEST, images=(f"{number} a", f"{number} b"))

    assert play.opens(2.0) == 2.0


@pytest.mark.parametrize("kind", [*OTHERS, None])
def test_trouble_of_another_kind_is_for_other_rules(kind: Kind | None) -> None:
    """Outages, limits, fatal answers."""
    play = Play(FailFast(setup()))
    for number in range(5 * IMAGES):
        play.once(1.0, kind, images=(f"image {number}",))

    assert play.opens(2.0) == 2.0


def test_ten_errors_that_nothing_classifies_end_the_run_when_they_say_the_same() -> None:
    """Numbers in the words aside, and in packs too; not when they differ."""
    for words, ends in (("no path {0}", True), ("{1} broke", False)):
        play = Play(FailFast(setup()))
        for number in range(IMAGES):
            assert play.opens(50.0) == 50.0
            said = words.format(number, "abcdefghij"[number])
            play.once(1.0, Kind.TRANSIENT, images=("a", "b"), message=said, systemic=True)
        assert isinstance(play.opens(50.0), StopReason) is ends


def test_from_the_first_refusal_on_no_more_are_in_flight_than_may_be_refused() -> None:
    play = Play(FailFast(setup()))
    permits = [play.take(0.0) for _ in range(IMAGES + 5)]
    assert play.opens(1.0) == 1.0
    play.report(permits.pop(), 1.0, Kind.BAD_REQUEST, images=("x",), message="no")
    assert play.opens(1.0) is NEVER
    for _ in range(6):
        play.report(permits.pop(), 1.0, Kind.MODEL_MINUTE)
    assert play.opens(1.0) == 1.0
