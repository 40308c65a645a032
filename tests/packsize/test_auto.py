"""`images_per_request: auto`, and the table for `plan`."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.captioning.finalize import records_of
from pipeline.model import Completion
from pipeline.packsize import auto
from pipeline.packsize.auto import (
    Measured,
    choose,
    forecasts,
    images_per_request,
    measure,
    rates,
    room,
)
from pipeline.packsize.limits import PackLimits, limits_for
from pipeline.verdict import Kind, Verdict
from tests.captioning.made import REPLY, listed, packed, sent

KNOWN = limits_for(1, context=1_000_000, max_output=8_192)
MUCH = Measured(settled=20_000, packs=600, packed=9_600, squares=153_600, largest=16)


def test_expected_images_of_a_request() -> None:
    """The figures that the pool is held to by simulation (`test_pack`)."""
    found = {
        (size, share): tuple(round(one, 1) for one in images_per_request(size, share))
        for size, share in [(16, 0.0), (16, 0.01), (32, 0.01), (32, 0.005), (1, 0.05)]
    }

    assert found == {
        (16, 0.0): (16.0, 16.0),
        (16, 0.01): (8.9, 8.8),
        (32, 0.01): (10.9, 10.8),
        (32, 0.005): (16.3, 16.2),
        (1, 0.05): (1.0, 0.9),
    }


@settings(deadline=None)
@given(st.integers(1, 64), st.floats(0, 1))
def test_expectations_are_within_bounds(size: int, share: float) -> None:
    """Never more than a pack, never more captions than images, and the refused ones have none."""
    images, captions = images_per_request(size, share)

    assert 0 <= captions <= images <= size + 1e-9
    assert captions == pytest.approx(images * (1 - share), rel=0.02, abs=0.02)


def test_without_measurements_packs_are_of_16() -> None:
    """Where the model's limits allow it."""
    assert choose(KNOWN) == 16
    assert choose(dataclasses.replace(KNOWN, tokens_out=1_000)) == 8
    assert choose(dataclasses.replace(KNOWN, tokens_in=4_000)) == 2
    assert choose(dataclasses.replace(KNOWN, tokens_out=10)) == 1


def test_packs_grow_twofold_while_all_goes_well() -> None:
    """Each size is tried before a larger one; beyond 64 nobody has looked."""
    sizes, measured = [], Measured()
    for _ in range(5):
        size = choose(KNOWN, measured)
        sizes.append(size)
        measured += Measured(
            settled=2_000, packs=100, packed=100 * size, squares=100 * size**2, largest=size
        )

    assert sizes == [16, 32, 64, 64, 64]


@pytest.mark.parametrize(
    ("refused", "most"), [(0, 32), (100, 32), (200, 32), (1_000, 16), (4_000, 6), (12_000, 1)]
)
def test_refusals_make_packs_smaller(refused: int, most: int) -> None:
    """At 5 % refused large packs are only searched; at 60 % packing is in vain."""
    size = choose(KNOWN, dataclasses.replace(MUCH, refused=refused))

    assert most / 2 <= size <= most


@pytest.mark.parametrize(("lost", "least", "most"), [(0, 32, 32), (960, 32, 32), (6_000, 8, 14)])
def test_lies_and_cuts_make_packs_smaller(lost: int, least: int, most: int) -> None:
    """A few lost entries are cheaper than small packs, many are not."""
    for name in ("lost", "cut"):
        size = choose(KNOWN, dataclasses.replace(MUCH, **{name: lost}))

        assert least <= size <= most


def test_measured_captions_and_images_decide_how_many_fit() -> None:
    """Long captions, dear images and heavy files each bound the pack."""
    base = dataclasses.replace(MUCH, captions=9_600)

    assert room(KNOWN, dataclasses.replace(base, tokens_out=9_600 * 40)) == 136
    assert room(KNOWN, dataclasses.replace(base, tokens_out=9_600 * 400)) == 13
    assert room(KNOWN, dataclasses.replace(base, raw_bytes=9_600 * 1_000_000)) == 11
    assert room(KNOWN, dataclasses.replace(base, tokens_in=9_600 * 100_000)) == 7


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_rates_are_shares(settled: int, refused: int, lost: int) -> None:
    """A prior keeps few observations from saying much, and never 0 or 1."""
    refused = min(refused, settled)
    measured = Measured(
        settled=settled, refused=refused, lost=lost, packed=lost, squares=lost * 16, packs=1
    )

    assert all(0 < rate <= 1 for rate in rates(measured))
    assert 1 <= choose(KNOWN, measured) <= auto.LARGEST


def test_what_a_reply_adds_to_the_counts() -> None:
    """Answered, cut, refused and single requests, counted by what they settled."""

    def counted(kind: Kind, content: str | None, count: int) -> Measured:
        asked = sent(count, "pack" if count > 1 else "plain")
        completion = None if content is None else Completion(content=content)
        found = records_of(asked, REPLY, Verdict(kind=kind), completion)
        return measure(
            asked, kind, found.records, prompt_tokens=900, completion_tokens=80, raw_bytes=7
        )

    whole = Measured(
        settled=4, packs=1, packed=4, squares=16, largest=4, tokens_out=80, captions=4,
        tokens_in=900, raw_bytes=7,
    )  # fmt: skip
    three = dataclasses.replace(whole, settled=3, captions=3)

    assert counted(Kind.OK, packed(listed(4)), 4) == whole
    one_lost = packed([*listed(2), *listed(4)[3:]])
    assert counted(Kind.OK, one_lost, 4) == dataclasses.replace(three, lost=1)
    passed_over = dataclasses.replace(whole, settled=0, captions=0, lost=4)
    assert counted(Kind.OK, packed(listed(3)), 4) == passed_over
    assert counted(Kind.TRUNCATED, packed(listed(3))[:-2], 4) == dataclasses.replace(three, cut=1)
    assert counted(Kind.SAFETY, None, 4) == Measured()
    assert counted(Kind.SAFETY, None, 1) == Measured(settled=1, refused=1)
    assert counted(Kind.OK, "A cat.", 1) == Measured(settled=1)
    assert counted(Kind.TRANSIENT, None, 4) == Measured()


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=12, max_size=12))
def test_counts_add_up_and_survive_a_file(counts: list[int]) -> None:
    """Kept as JSON per model; what a damaged file holds counts as nothing."""
    names = [field.name for field in dataclasses.fields(Measured)]
    one = Measured(**dict(zip(names, counts, strict=True)))

    assert Measured.of_plain(json.loads(json.dumps(one.to_plain()))) == one
    assert one + Measured() == one
    assert (one + one).settled == 2 * one.settled
    assert (one + one).largest == one.largest
    assert Measured.of_plain({"settled": "x", "lost": -1, "other": 3, "cut": 1.5}) == Measured()


def test_the_forecast_of_a_day() -> None:
    """50 requests of 32: 1,600 captions, 541 at 1 % refused, 141 at 5 %."""
    fixed = forecasts(32, requests_per_day=50, limits=KNOWN)
    free = forecasts(None, requests_per_day=50, limits=KNOWN)
    endless = forecasts(1, requests_per_day=None, limits=KNOWN)

    assert [f.captions_per_day for f in fixed] == [1_600, 541, 141]
    assert [f.refused for f in free] == [0.0, 0.01, 0.05]
    assert [f.size for f in free] == [64, 53, 12]
    assert all(
        a.captions_per_request >= b.captions_per_request for a, b in zip(free, fixed, strict=True)
    )
    assert [f.captions_per_day for f in endless] == [None] * 3


def test_limits_of_the_pool_do_not_bound_auto() -> None:
    """`images` is what auto is to find."""
    assert choose(PackLimits(images=1)) == choose(PackLimits(images=99)) == 16
