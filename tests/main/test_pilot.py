"""`run --pilot N`: a sample from all over the manifest, and what it says about the whole."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.captioning.options import RunOptions
from pipeline.commands.pilot import page
from pipeline.errors import UsageError
from pipeline.packsize import interval
from pipeline.packsize.sample import pilot_sizes, spread_places
from pipeline.simulator.core import Simulator
from tests.main.test_nights import FREE, chats, job_of
from tests.support.checker import check_whole
from tests.support.command import ROOT, pipeline
from tests.support.environment import run_job
from tests.support.virtual import VirtualClock, run


def test_a_pilot_foretells_the_nights(tmp_path: Path) -> None:
    """120 of 3,000 images at 2 % refused: its interval holds the truth, and what it settled
    counts: the runs after it ask only the rest, at the captions a day that were foretold."""
    knobs = replace(FREE, refused=0.02, rpd=60, rpm=1_000)
    job = job_of(tmp_path, 3_000, quota={"requests_per_day": 60})
    auto = job_of(tmp_path, 3_000, packing={"images_per_request": "auto"})
    clock = VirtualClock()

    async def go() -> tuple[Any, list[Any], list[Any]]:
        simulator = Simulator(knobs, seed=3, clock=clock)
        pilot = RunOptions(pilot=120)
        told = await run_job(job, simulator, clock, state=tmp_path / "state", options=pilot)
        asked = chats(simulator)
        await clock.sleep(86_400 - clock.now() % 86_400 + 5)
        nights = [await run_job(auto, simulator, clock, state=tmp_path / "state")]
        return told, asked, nights

    told, asked, nights = run(go())
    found = told["pilot"]
    numbers = [int(i["url"].rsplit("/", 1)[1][:-4]) for one in asked for i in one.images]

    assert (told["exit_code"], found["images"], found["left"]) == (1, 120, 2_880)
    assert found["requests"] == len(asked) == told["requests"]
    assert {1, 4, 8, 16, 32} <= {int(size) for size in found["by_size"]}
    assert all(any(n * 300 <= x < n * 300 + 300 for x in numbers) for n in range(10))
    value, low, high = found["refused"]
    assert low <= 0.02 <= high < 0.1
    assert value == pytest.approx(told["failed"] / 120, abs=1e-4)
    assert found["agreement"]["packed_pairs"] > 0
    assert not found["agreement"]["worse"]
    low, high = found["captions_per_day"][1:]
    assert low <= nights[0]["captioned"] - told["captioned"] <= high
    assert json.loads((tmp_path / "out/pilot.json").read_text())["left"] == 2_880
    assert nights[0]["images"] == 3_000


def test_a_pilot_of_the_photographs_offline(tmp_path: Path) -> None:
    """The embedded service, real pictures: the forecast on stdout, the page with the pictures."""
    ended = pipeline(
        "run", str(ROOT / "configs/job.yaml"), "--pilot", "12", "--set", f"output.path={tmp_path}/o"
    )
    html = (tmp_path / "o/pilot.html").read_text()

    assert ended.code == 0, ended.err
    assert "12 images settled" in ended.out
    assert "captions a request" in ended.out
    assert html.count('src="data:image/jpeg;base64,') == 12
    assert len(check_whole(tmp_path / "o")) == 12


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href")]


EVIL = ['"><img onerror=alert(1) src=x>', "</td><script>alert(1)</script>", "javascript:alert(1)"]


@pytest.mark.parametrize("evil", EVIL)
def test_what_a_model_wrote_is_never_markup(evil: str) -> None:
    """A caption, an address or an error text adds no element and no link to the page."""

    def elements(text: str) -> _Elements:
        row = {
            "image": text,
            "picture": "data:image/jpeg;base64,AAAA",
            "size": 4,
            "caption": text,
            "error": text,
            "code": "refused",
            "alone": text,
            "alike": 0.5,
            "misplaced": True,
        }
        reader = _Elements()
        reader.feed(page([text], [row, {**row, "caption": None}], more=3))
        return reader

    calm, tried = elements("a cat"), elements(evil)
    assert tried.tags == calm.tags
    assert tried.links == calm.links
    assert "script" not in tried.tags


def test_a_sample_is_spread_and_exact() -> None:
    """So many of all, from all over."""
    for seed in range(200):
        rng = random.Random(seed)
        total, count = rng.randrange(2_000), rng.randrange(1, 1_000)
        places = spread_places(total, count, rng)

        assert len(places) == min(count, total)
        assert all(0 <= place < total for place in places)
        if count < total:
            assert abs(sum(place < total / 2 for place in places) - count / 2) <= 1


@pytest.mark.parametrize(("count", "most"), [(1, 64), (9, 64), (40, 64), (100, 5), (1000, 64)])
def test_pack_sizes_fit_the_sample(count: int, most: int) -> None:
    """None above what fits, some alone, together about the sample."""
    sizes = pilot_sizes(count, most, random.Random(1))

    assert max(sizes) <= max(1, min(most, count // 3))
    assert 1 in sizes
    assert count * 0.7 <= sum(sizes) <= count * 1.4


def test_intervals() -> None:
    """Wilson's interval by the book (Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20)."""
    for count, of, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        assert interval.share(count, of)[1:] == pytest.approx((low, high), abs=1e-4)
    assert interval.share(0, 20)[1:] == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert interval.share(0, 0) == (0.0, 0.0, 1.0)
    assert interval.mean([2.0]) == (2.0, 2.0, 2.0)
    middle, low, high = interval.mean([1.0, 3.0] * 50)
    assert (middle, round(high - low, 2)) == (2.0, 0.39)


def test_bad_options() -> None:
    """Neither none nor together with --limit."""
    for wrong in ({"pilot": 0}, {"pilot": 5, "limit": 5}):
        with pytest.raises(UsageError, match="--pilot"):
            RunOptions(**wrong)
