"""The pool: full packs, culprits found cheaply, nothing lost on the way."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.captioning.pack import Pool
from pipeline.captioning.retry import RetryDecision
from pipeline.model import Item, Request
from pipeline.packsize import auto
from pipeline.packsize.limits import PackLimits, limits_for
from pipeline.verdict import Kind, Verdict
from tests.captioning.made import (
    FAIL,
    OK,
    REFUSED,
    RETRY,
    SPLIT,
    Outcome,
    again,
    drained,
    filled,
    item,
    numbers,
    run,
    searched,
    service,
    taken,
)

# --- full packs


def test_a_day_of_50_requests_is_1600_captions() -> None:
    """Packs of 32, nothing refused: exactly 50 requests of 32."""
    for flight in (1, 8):
        outcome = searched(32, 0.0, 1600, seed=1, flight=flight)

        assert (outcome.requests, outcome.captioned) == (50, 1600)


@pytest.mark.parametrize("size", [1, 2, 5, 16, 64])
def test_packs_leave_full(size: int) -> None:
    """Without refusals a run takes as many requests as there are packs' worths of images."""
    outcome = searched(size, 0.0, 333, seed=1, flight=4)

    assert outcome.requests == -(-333 // size)


def test_a_short_pack_waits_for_what_may_come_back() -> None:
    """Fewer than a pack's worth leave only when nothing in flight might join them."""
    pool = filled(3, PackLimits(images=4))

    assert pool.take(ended=True, idle=False) is None
    assert pool.take(ended=False, idle=False) is None
    assert drained(pool) == [[0, 1, 2]]


def test_one_image_travels_in_plain_form_and_several_as_a_pack() -> None:
    """With one image the reply is plain text, also in a job that packs."""
    pool = filled(3, PackLimits(images=2))

    assert [(taken(pool)).form for _ in range(2)] == ["pack", "plain"]
    assert taken(_one(Pool(PackLimits(), form="fields"))).form == "fields"


def _one(pool: Pool) -> Pool:
    pool.add(item(1))
    return pool


def test_bytes_bound_a_pack() -> None:
    """14 MB of images are never exceeded, and one image that alone is larger still goes."""
    pool = Pool(PackLimits(images=10, raw_bytes=1000))
    for number, size in enumerate([600, 300, 200, 5000, 10]):
        pool.add(item(number, size=size))

    assert drained(pool) == [[0, 1], [2], [3], [4]]


def test_tokens_bound_a_pack() -> None:
    """Neither the longest answer nor the context is exceeded by estimate."""
    assert [len(p) for p in drained(filled(20, PackLimits(images=99, tokens_out=960)))] == [8, 8, 4]
    requests = drained_requests(filled(20, PackLimits(images=99, tokens_in=2_000)))

    assert {len(r.items) for r in requests[:-1]} == {7}
    assert all(r.tokens_in <= 2_000 for r in requests)


def test_the_system_prompt_counts_in_every_request() -> None:
    """It leaves fewer images room in a pack, and stands in the estimate of packs and of images alone."""
    asked = {
        system: drained_requests(
            filled(20, PackLimits(images=99, tokens_in=2_000, system_tokens=system))
        )
        for system in (0, 1_000)
    }

    assert [len(r.items) for r in asked[0]] == [7, 7, 6]
    assert [len(r.items) for r in asked[1_000]] == [3, 3, 3, 3, 3, 3, 2]
    assert all(1_000 < r.tokens_in <= 2_000 for r in asked[1_000])
    alone = [taken(filled(1, PackLimits(system_tokens=system))).tokens_in for system in (0, 1_000)]
    assert alone[1] - alone[0] == 1_000


def drained_requests(pool: Pool) -> list[Request]:
    """All requests of a pool."""
    requests = []
    while (request := pool.take(ended=True, idle=True)) is not None:
        requests.append(request)
    return requests


def test_prompts_that_differ_count_each_and_share_a_pack() -> None:
    """A long prompt at every image fills the context sooner than one for all."""
    limits = PackLimits(images=99, tokens_in=4_000)
    pool = Pool(limits)
    for number in range(20):
        pool.add(item(number, prompt=f"{number} " + "word " * 200))
    request = taken(pool)

    assert 2 <= len(request.items) < len(taken(filled(20, limits)).items)
    assert request.tokens_in <= 4_000


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 900), st.sampled_from(["a", "b" * 300])), max_size=40),
    st.integers(1, 9),
)
def test_no_request_exceeds_any_limit(cells: list[tuple[int, str]], images: int) -> None:
    """Whatever comes in: in order, each once, and over a limit only alone."""
    pool = Pool(PackLimits(images=images, raw_bytes=1_000, tokens_in=1_500, tokens_out=700))
    for number, (size, prompt) in enumerate(cells):
        pool.add(item(number, size=size, prompt=prompt))
    requests = drained_requests(pool)

    assert [n for r in requests for n in numbers(r)] == list(range(len(cells)))
    for r in requests:
        size = sum(len(one.image.data or b"") for one in r.items)
        within = size <= 1_000 and r.tokens_in <= 1_500 and r.tokens_out <= 700
        assert len(r.items) <= images
        assert within or len(r.items) == 1


def test_the_size_of_packs_may_change_in_the_course_of_a_run() -> None:
    """Larger and smaller, for the images that have not left."""
    pool = filled(9, PackLimits(images=2))
    sizes = []
    for images in (2, 4, 1):
        pool.allow(images)
        sizes.append(len(taken(pool).items))

    assert sizes == [2, 4, 1]


def test_limits_of_a_model() -> None:
    """A small context leaves room for images; unknown figures are the known model's."""
    known = limits_for(32, context=None, max_output=None)
    small = limits_for(32, context=8_192, max_output=None)

    assert (known.tokens_in, known.tokens_out) == (891_808, 8_192)
    assert small.tokens_in > 3_000
    assert small.tokens_out == 4_096


# --- refused packs


@pytest.mark.parametrize(
    ("size", "share", "images", "captions"),
    [
        (16, 0.01, 8.85, 8.75),
        (32, 0.01, 10.85, 10.7),
        (32, 0.005, 16.1, 16.0),
        (16, 0.05, 3.1, 2.95),
    ],
)
def test_images_settled_in_one_request(
    size: int, share: float, images: float, captions: float
) -> None:
    """Measured by simulation, and as the formula says; asking both halves whole gives 7.6 by
    packs of 16 and 7.8 by packs of 32 at 1 %."""
    found = [searched(size, share, 20_000, seed=seed, flight=1 + 7 * seed) for seed in (0, 1)]
    requests = sum(one.requests for one in found)
    settled = sum(one.settled for one in found) / requests
    captioned = sum(one.captioned for one in found) / requests

    assert settled >= images
    assert captioned >= captions
    assert (settled, captioned) == pytest.approx(auto.images_per_request(size, share), rel=0.015)


def test_a_half_that_must_hold_the_culprit_is_never_asked_whole() -> None:
    """The culprit is in the half that is not asked: the requests one by one."""
    pool = filled(8, PackLimits(images=8))
    asked = []
    while (request := pool.take(ended=True, idle=True)) is not None:
        asked.append(numbers(request))
        if 5 in asked[-1] and len(asked[-1]) > 1:
            pool.done(request, request.items, SPLIT, REFUSED)
        else:
            pool.done(request, verdict=REFUSED if 5 in asked[-1] else OK)

    assert asked == [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3], [4, 5], [4], [5], [6, 7]]


def test_the_untested_half_travels_with_fresh_images() -> None:
    """Nothing is known of it: it does not cost a request of its own."""
    pool = filled(8, PackLimits(images=4))
    whole = taken(pool)
    pool.done(whole, whole.items, SPLIT, REFUSED)
    half = taken(pool)
    pool.done(half, half.items, SPLIT, REFUSED)
    one = taken(pool)
    pool.done(one, verdict=REFUSED)

    assert [numbers(r) for r in (whole, half, one)] == [[0, 1, 2, 3], [0, 1], [0]]
    assert drained(pool) == [[1, 2, 3, 4], [5, 6, 7]]


@settings(max_examples=150, deadline=None)
@given(st.sets(st.integers(0, 79)), st.integers(1, 33), st.integers(1, 6), st.integers(0, 99))
def test_every_culprit_is_found_and_no_neighbour_fails(
    bad: set[int], size: int, flight: int, seed: int
) -> None:
    """Any culprits, any pack size, any order of answers: exactly the bad ones fail, each asked
    alone, and all others have a caption."""
    outcome = Outcome()
    items = [item(number) for number in range(80)]
    run(Pool(PackLimits(images=size)), items, service(bad, outcome), flight=flight, seed=seed)

    assert (outcome.captioned, outcome.failed) == (80 - len(bad), len(bad))


def test_a_named_suspect_travels_alone() -> None:
    """The service says which image it was: that one is asked alone, the others travel on."""
    pool = filled(4, PackLimits(images=4))
    request = taken(pool)
    pool.done(request, request.items, SPLIT, Verdict(kind=Kind.SAFETY, suspect=3))

    assert drained(pool) == [[2], [0, 1, 3]]


def test_a_suspect_is_named_by_its_number_in_the_whole_pack() -> None:
    """The entries before the cut are settled; the number still means the same image."""
    pool = filled(6, PackLimits(images=6))
    request = taken(pool)
    pool.done(request, request.items[2:], SPLIT, Verdict(kind=Kind.SAFETY, suspect=4))

    assert drained(pool) == [[3], [2, 4, 5]]


@pytest.mark.parametrize("suspect", [0, 5, 99])
def test_a_suspect_that_is_not_there_is_searched_for(suspect: int) -> None:
    """A number outside the pack names nobody."""
    pool = filled(4, PackLimits(images=4))
    request = taken(pool)
    pool.done(request, request.items, SPLIT, Verdict(kind=Kind.SAFETY, suspect=suspect))

    assert numbers(taken(pool)) == [0, 1]


@pytest.mark.parametrize("kind", [Kind.EMPTY, Kind.MALFORMED, Kind.TRANSIENT])
def test_an_answer_that_tells_nothing_clears_nobody(kind: Kind) -> None:
    """The asked half got no answer: the culprit may be in either, and is searched for again."""
    pool = filled(4, PackLimits(images=4))
    whole = taken(pool)
    pool.done(whole, whole.items, SPLIT, REFUSED)
    half = taken(pool)
    pool.done(half, half.items, RETRY, Verdict(kind=kind))

    assert numbers(taken(pool)) == [0, 1]
    assert len(pool) == 2  # the other half waits in the pool's care


# --- what comes back


def test_images_that_a_pack_left_out_travel_with_the_next() -> None:
    """Dropped entries go to the front, so that they are answered next."""
    pool = filled(6, PackLimits(images=4))
    request = taken(pool)
    pool.done(request, [again(request.items[1]), again(request.items[2])], RETRY, OK)

    assert drained(pool) == [[1, 2, 4, 5]]


def test_an_image_that_packs_keep_missing_travels_alone() -> None:
    """At its third attempt it is asked by itself."""
    pool = filled(4, PackLimits(images=4))
    request = taken(pool)
    pool.done(request, [item(1, attempts=2), item(2, attempts=3)], RETRY, OK)

    assert drained(pool) == [[2], [1]]


def test_a_whole_pack_that_is_missed_twice_goes_in_quarters() -> None:
    """Not 16 requests for what was perhaps bad luck; at the next attempt each goes alone."""
    pool = filled(16, PackLimits(images=16))
    for _ in range(2):
        request = taken(pool)
        pool.done(request, [again(one) for one in request.items], RETRY, OK)
    quarter = taken(pool)
    pool.done(quarter, [again(one) for one in quarter.items], RETRY, OK)

    assert numbers(quarter) == [0, 1, 2, 3]
    assert drained(pool) == [[4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15], [0], [1], [2], [3]]


def test_a_reloaded_image_comes_back_as_it_is_now() -> None:
    """The pool hands on what it was given back, not what it gave out."""
    pool = filled(2, PackLimits(images=2))
    request = taken(pool)
    pool.done(request, [item(1, size=9, attempts=2)], RETRY, OK)
    back = taken(pool)

    assert numbers(back) == [1]
    assert back.items[0].image.data == b"x" * 9


def test_an_image_to_audit_travels_alone() -> None:
    """It stays out of packs, and whatever becomes of it, it does not come back."""
    pool = filled(2, PackLimits(images=4))
    pool.audit(item(7))
    request = taken(pool)

    assert (request.form, numbers(request), len(pool)) == ("audit", [7], 2)
    pool.done(request, request.items, FAIL, Verdict(kind=Kind.TRANSIENT))
    assert drained(pool) == [[0, 1]]


@pytest.mark.parametrize("kind", [Kind.EMPTY, Kind.MALFORMED, Kind.TRANSIENT])
def test_a_pack_that_breaks_every_reply_is_searched(kind: Kind) -> None:
    """Its attempts are used up while others are answered: one image is the cause, and only the
    half that is asked next can tell which."""
    pool = filled(8, PackLimits(images=8))
    request = taken(pool)
    pool.done(request, request.items, SPLIT, Verdict(kind=kind))
    half = taken(pool)

    assert numbers(half) == [0, 1, 2, 3]
    pool.done(half, (), None, Verdict(kind=Kind.OK))
    assert numbers(taken(pool)) == [4, 5]


def test_parked_images_wait_for_all_others_and_then_go_in_halves() -> None:
    """Attempts used up while the service may be down: asked when nothing else is left, in
    halves, as one of them may be what breaks the service."""
    pool = filled(4, PackLimits(images=4))
    request = taken(pool)
    pool.done(request, request.items, FAIL, Verdict(kind=Kind.TRANSIENT))
    pool.add(item(9))

    assert pool.take(ended=True, idle=False) is None
    assert len(pool) == 5
    assert drained(pool) == [[9], [0, 1], [2, 3]]


# --- packs that are too much


@pytest.mark.parametrize("kind", [Kind.TOO_LARGE, Kind.TOO_LONG, Kind.TRUNCATED])
def test_too_large_a_pack_is_halved_and_later_packs_are_smaller(kind: Kind) -> None:
    """413, the context and a cut answer say that there was too much, not that one is bad."""
    pool = Pool(PackLimits(images=4))
    for number in range(8):
        pool.add(item(number, size=100))
    request = taken(pool)
    pool.done(request, request.items, SPLIT, Verdict(kind=kind))

    assert drained(pool) == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_a_cut_answer_keeps_what_it_has_and_the_rest_goes_first() -> None:
    """Half of the pack was answered: the other half starts the next pack, whose size stays."""
    pool = filled(8, PackLimits(images=4))
    request = taken(pool)
    pool.done(request, request.items[2:], SPLIT, Verdict(kind=Kind.TRUNCATED))

    assert drained(pool) == [[2, 3, 4, 5], [6, 7]]


def test_packs_that_the_model_never_answers_shrink_and_grow_back() -> None:
    """Two packs in a row without one usable entry halve the size; 32 answers let it grow."""
    pool = filled(400, PackLimits(images=16))
    for _ in range(2):
        request = taken(pool)
        pool.done(request, request.items, RETRY, OK)
    sizes = [len(pack) for pack in drained(pool)]

    assert sizes[0] == 8
    assert max(sizes) == 16
    assert sorted(sizes[:-1]) == sizes[:-1]


def test_a_model_that_understands_no_packs_is_asked_one_by_one() -> None:
    """The size comes down to 1 and everything is settled, at little more than a request each."""

    def answer(request: Request) -> tuple[Verdict, RetryDecision | None, Sequence[Item]]:
        if len(request.items) > 1:
            return OK, RETRY, [again(one) for one in request.items]
        return OK, None, ()

    items = [item(number) for number in range(300)]
    outcome = run(Pool(PackLimits(images=32)), items, answer, flight=1, seed=1)

    assert 300 < outcome.requests < 345


# --- everything at once


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(1, 5))
def test_nothing_is_lost_whatever_the_service_does(seed: int, size: int, flight: int) -> None:
    """Drops, refusals, wrong names, cuts, outages, limits in any mix: every image is settled,
    none is asked twice at once, none after it was settled; the same seed gives the same run."""

    def once() -> list[list[int]]:
        rng, seen = random.Random(seed), list[list[int]]()

        def answer(
            request: Request,
        ) -> tuple[Verdict | None, RetryDecision | None, Sequence[Item]]:
            seen.append(numbers(request))
            kind = rng.choice([*[Kind.OK] * 8, *Kind])
            items = request.items
            if len(items) == 1 and (items[0].asked.attempts > 4 or kind is Kind.OK):
                return Verdict(kind=kind), None, ()
            over = all(one.asked.attempts > 4 for one in items)
            decision = rng.choice([RETRY, SPLIT, FAIL])
            if decision is FAIL and over:
                return Verdict(kind=kind), decision, ()
            left = [again(one) for one in items if kind is not Kind.OK or rng.random() < 0.2]
            if kind is Kind.TRUNCATED:
                left = left[rng.randrange(len(left) + 1) :]
            left = [one for one in left if one.asked.attempts < 9]
            return Verdict(kind=kind, suspect=rng.choice([None, 1, 3, 99])), decision, left

        items = [item(number) for number in range(60)]
        run(Pool(PackLimits(images=size)), items, answer, flight=flight, seed=seed)
        return seen

    assert once() == once()
