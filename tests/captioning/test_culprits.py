"""Refused packs over nights: remembered, after the fresh packs where the day binds, and none lost."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from pipeline.captioning.suspects import NAME, Suspects
from tests.captioning.nights import DAY, SIZE, Nights

IMAGES, CULPRITS = 2_400, 24


def nights_of(folder: Path, seed: int, *, remembers: bool = True, flight: int = 4) -> Nights:
    """2,400 images, of which 1 % are refused: others for each seed."""
    bad = set(random.Random(seed).sample(range(IMAGES), CULPRITS))
    state = folder / f"{seed}-{remembers}"
    state.mkdir()
    return Nights(state, IMAGES, bad, remembers=remembers, flight=flight, rng=random.Random(seed))


def clean(nights: Nights) -> int:
    """Captions of the first day's packs in manifest order that hold nothing refused: what no order of
    asking, which knows nothing beforehand, can bring more of in the mean."""
    packs = [set(range(at, at + SIZE)) for at in range(0, DAY * SIZE, SIZE)]
    return sum(SIZE for pack in packs if not pack & nights.bad)


def test_a_first_day_is_spent_on_fresh_packs(tmp_path: Path) -> None:
    """50 requests, packs of 32, 1 % refused: every request is a fresh pack, 1,160 captions in the
    mean (1,600 x 0.725)."""
    brought = []
    for seed in range(40):
        nights = nights_of(tmp_path, seed)
        nights.night()
        assert len(nights.captioned) == clean(nights)
        brought.append(len(nights.captioned))

    print(f"captions of a first day, 40 seeds: {min(brought)} to {max(brought)}: {sorted(brought)}")
    assert sum(brought) / len(brought) >= 1_100


@pytest.mark.parametrize("seed", range(8))
def test_all_nights_take_fewer_requests_than_without_memory(tmp_path: Path, seed: int) -> None:
    """Every image ends, each refusal is paid for once, and a culprit is failed by its own refusal."""
    requests = {}
    for remembers in (False, True):
        nights = nights_of(tmp_path, seed, remembers=remembers)
        while nights.left:
            nights.night()
        requests[remembers] = len(nights.asked)
        assert nights.failed == nights.bad
        assert {(number,) for number in nights.bad} <= set(nights.asked)
    repeated = len(nights.asked) - len(set(nights.asked))

    print(f"seed {seed}: {requests[True]} requests, {requests[False]} without memory")
    assert repeated == 0
    assert requests[True] <= requests[False]


@pytest.mark.parametrize("seed", range(8))
def test_a_search_goes_on_after_kills(tmp_path: Path, seed: int) -> None:
    """Killed at random instants, in nights that bind and in those that do not: no answered request is
    asked again, nothing that was captioned or refused either."""
    nights = nights_of(tmp_path, seed, flight=1 + seed)
    chance = random.Random(seed)
    while nights.left:
        nights.night(kills_after=chance.randrange(1, DAY) if chance.random() < 0.7 else None)

    assert nights.failed == nights.bad
    assert len(set(nights.asked)) == len(nights.asked)
    settled = set[int]()
    for group in nights.asked:
        assert not settled & set(group)
        if not nights.bad & set(group) or len(group) == 1:
            settled |= set(group)


def test_a_service_that_refuses_all_is_seen_through_after_seven_packs(tmp_path: Path) -> None:
    """A row of refused packs is no chance: the search goes first, so that single images are asked."""
    nights = nights_of(tmp_path, 1)
    nights.bad = set(range(IMAGES))
    nights.night()

    assert [len(group) for group in nights.asked[:7]] == [SIZE] * 7
    assert 1 in [len(group) for group in nights.asked[:25]]


def test_images_that_left_the_manifest_hold_up_no_search(tmp_path: Path) -> None:
    """Half of a refused pack is gone, the culprit with it: the others are asked and captioned."""
    nights = nights_of(tmp_path, 1)
    nights.images, nights.bad = 3 * SIZE, {5}
    nights.flight = 1
    nights.night(kills_after=2)
    gone = set(range(SIZE // 2))
    nights.captioned |= gone  # as if they were: their rows do not come
    while nights.left:
        nights.night()

    assert nights.failed == set()
    assert len(set(nights.asked)) == len(nights.asked)


def test_a_damaged_file_costs_its_memory_and_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).write_bytes(b"no database" * 100)
    suspects = Suspects(tmp_path)
    suspects.open(lambda _key: None)
    suspects.suspect(["00" * 16], ["00" * 16])
    suspects.write()
    suspects.close()

    assert [record.message.partition(" (")[0] for record in caplog.records] == [
        f"{tmp_path / NAME}: cannot be read, packs that were refused are asked again"
    ]
    with sqlite3.connect(tmp_path / NAME) as db:
        assert db.execute("SELECT count(*) FROM suspects").fetchone() == (1,)
    db.close()


def test_what_is_settled_is_forgotten(tmp_path: Path) -> None:
    """Captioned: the others hold the culprit. Failed: it was the culprit, the others are fresh."""
    keys = [f"{number:032x}" for number in range(6)]
    suspects = Suspects(tmp_path)
    suspects.suspect(keys[:3], keys[:3])
    suspects.suspect(keys[3:], keys[3:])
    suspects.write()
    suspects.close()
    later = Suspects(tmp_path)
    later.open({keys[0]: "ok", keys[3]: "safety"}.get)
    packs = [later.pack_of(key) for key in keys]
    later.close()

    assert packs == [None, (1, 2), (1, 2), None, None, None]
