"""The pool: full packs, culprits found cheaply, nothing lost on the way."""

from __future__ import annotations

import random

import pytest

from pipeline.plan.pack import PackLimits, Pool
from pipeline.records import Asked, Image, Item, Request
from pipeline.retry import Action, Kind, RetryDecision, Verdict

SPLIT = RetryDecision(action=Action.SPLIT)
RETRY = RetryDecision(action=Action.RETRY)
REFUSED = Verdict(kind=Kind.SAFETY)


def item(number: int, size: int = 0, attempts: int = 1) -> Item:
    asked = Asked(
        key=f"{number:032x}", id=None, image="", prompt_id="", ordinal=number, attempts=attempts
    )
    image = Image(data=b"x" * size, width=300, height=300)
    return Item(asked=asked, image=image, prompt="What?")


def numbers(request: Request) -> list[int]:
    return [one.asked.ordinal for one in request.items]


def captions_a_request(size: int, share: float, count: int, seed: int, flight: int) -> float:
    """Simulate a service that refuses every pack with a bad image in it."""
    rng = random.Random(seed)
    bad = {n for n in range(count) if rng.random() < share}
    pool = Pool(PackLimits(images=size, tokens_out=10**9, tokens_in=10**9))
    flying: list[Request] = []
    fresh, requests, captioned, failed = 0, 0, set[int](), set[int]()
    while True:
        ended = fresh == count
        request = pool.take(ended=ended, idle=ended and not flying)
        if request is None and not ended:
            pool.add(item(fresh))
            fresh += 1
            continue
        if request is not None:
            requests += 1
            flying.append(request)
            if len(flying) < flight:
                continue
        if not flying:
            break
        done = flying.pop(rng.randrange(len(flying)))
        if not bad & set(numbers(done)):
            assert not captioned & set(numbers(done)), "asked twice"
            captioned |= set(numbers(done))
            pool.done(done, verdict=Verdict(kind=Kind.OK))
        elif len(done.items) == 1:
            failed |= set(numbers(done))
            pool.done(done, verdict=REFUSED)
        else:
            pool.done(done, done.items, SPLIT, REFUSED)
    assert failed == bad
    assert captioned == set(range(count)) - bad
    return len(captioned) / requests


@pytest.mark.parametrize(
    ("size", "share", "least"),
    [(16, 0.0, 16), (32, 0.0, 32), (16, 0.01, 8.2), (32, 0.01, 10.0), (32, 0.005, 14.0)],
)
def test_captions_a_request(size: int, share: float, least: float) -> None:
    """At 1 % refused images packs of 32 still give ten captions a request; plain halving 7.8."""
    found = [
        captions_a_request(size, share, 6400, seed, flight)
        for seed in (1, 2, 3)
        for flight in (1, 8)
    ]

    assert sum(found) / len(found) >= least


def test_a_day_of_50_requests_is_1600_captions() -> None:
    """Packs of 32, nothing refused: exactly 50 requests."""
    assert captions_a_request(32, 0.0, 1600, 1, 8) == 32


def drained(pool: Pool) -> list[list[int]]:
    found = []
    while (request := pool.take(ended=True, idle=True)) is not None:
        found.append(numbers(request))
    return found


def test_a_short_pack_waits_for_what_may_come_back() -> None:
    """Fewer than a pack's worth leave only when nothing in flight might join them."""
    pool = Pool(PackLimits(images=4))
    for number in range(3):
        pool.add(item(number))

    assert pool.take(ended=True, idle=False) is None
    assert drained(pool) == [[0, 1, 2]]


def test_bytes_and_tokens_bound_a_pack() -> None:
    """14 MB of images and the longest answer are never exceeded; one image always goes."""
    pool = Pool(PackLimits(images=10, raw_bytes=1000))
    for number, size in enumerate([600, 300, 200, 5000, 10]):
        pool.add(item(number, size))
    assert drained(pool) == [[0, 1], [2], [3], [4]]

    pool = Pool(PackLimits(images=100, tokens_out=120 * 8))
    for number in range(20):
        pool.add(item(number))
    assert [len(pack) for pack in drained(pool)] == [8, 8, 4]


def test_a_named_suspect_travels_alone() -> None:
    """The service says which image it was: that one is asked alone, the others travel on."""
    pool = Pool(PackLimits(images=4))
    for number in range(4):
        pool.add(item(number))
    request = pool.take(ended=True, idle=True)
    assert request is not None
    pool.done(request, request.items, SPLIT, Verdict(kind=Kind.SAFETY, suspect=3))

    assert drained(pool) == [[2], [0, 1, 3]]


def test_an_image_that_packs_keep_missing_travels_alone() -> None:
    """At its third attempt it is asked by itself."""
    pool = Pool(PackLimits(images=4))
    for number in range(4):
        pool.add(item(number))
    request = pool.take(ended=True, idle=True)
    assert request is not None
    pool.done(request, [item(1, attempts=2), item(2, attempts=3)], RETRY, Verdict(kind=Kind.OK))

    assert drained(pool) == [[2], [1]]


def test_too_large_a_pack_is_halved() -> None:
    """413 and a cut answer say that there was too much, not that an image is bad."""
    pool = Pool(PackLimits(images=4))
    for number in range(4):
        pool.add(item(number))
    request = pool.take(ended=True, idle=True)
    assert request is not None
    pool.done(request, request.items, SPLIT, Verdict(kind=Kind.TOO_LARGE))

    assert drained(pool) == [[0, 1], [2, 3]]


def test_parked_images_wait_for_all_others() -> None:
    """Images whose attempts an outage used up are asked when nothing else is left."""
    pool = Pool(PackLimits(images=1))
    pool.add(item(1))
    request = pool.take(ended=False, idle=False)
    assert request is not None
    pool.done(
        request, request.items, RetryDecision(action=Action.FAIL), Verdict(kind=Kind.TRANSIENT)
    )
    pool.add(item(2))

    assert drained(pool) == [[2], [1]]
