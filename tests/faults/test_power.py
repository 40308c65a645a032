"""The power goes at any instant of a small run: what was acknowledged is still there.

By model (`support/powercut.py`): the run's file calls are recorded, and for every instant the
disks that POSIX allows are laid out and opened by a second run. Nothing here needs a real disk to
lie; a disk that lies about syncing is beyond any program.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from pipeline.ratelimit.settings import QuotaSettings
from pipeline.ratelimit.today import today
from pipeline.store.bodies import read_bodies
from pipeline.store.runs import read_runs
from tests.faults.conftest import Table
from tests.faults.test_file_faults import Runs, runs, shim, trouble
from tests.support.checker import published
from tests.support.powercut import POLICIES, Call, Disk, Policy, lay_out, read_record
from tests.support.small_run import ACCOUNT, BODY, IMAGES, LIMITS, NOON, ODD, RESERVED, SUMMARY
from tests.support.weekly import weekly

__all__ = ["runs", "shim"]
_ACKS = "acks"


def recorded(folder: Path, runs: Runs) -> list[Call]:
    """The file calls of one undisturbed run in `folder`."""
    folder.mkdir()
    code, _ = runs.run(folder, mode="record")
    assert code == 0
    calls = list(read_record(folder / "fired"))
    names = Counter(call.name for call in calls)
    assert names["sync"] > 20
    assert names["rename"] >= 5
    assert names["write"] > 50
    return calls


def missing(folder: Path) -> int:
    """What else was said to be on disk and is not there, or not whole."""
    said = Counter((folder / _ACKS).read_bytes().split())
    out, gone = folder / "out", 0
    if said[b"%d" % BODY]:
        gone += ODD not in [json.loads(body)["content"] for _, body in bodies_of(out)]
    if said[b"%d" % SUMMARY]:
        gone += not read_runs(out)
    used = today(
        folder / "state",
        QuotaSettings(),
        LIMITS,
        account=ACCOUNT,
        model="model",
        output="out",
        now=NOON,
    ).used
    gone += max(0, said[b"%d" % RESERVED] - used)
    exported = folder / "export.jsonl"
    gone += exported.exists() and len(exported.read_text().splitlines()) != IMAGES
    dataset = out / "dataset.parquet"
    return gone + (dataset.exists() and dataset.stat().st_size < 12)


def bodies_of(out: Path) -> list[tuple[dict[str, object], bytes]]:
    """The kept bodies."""
    folder = out / "_state/bodies"
    return list(read_bodies(folder)) if folder.exists() else []


def cuts(
    tmp_path: Path, runs: Runs, policy: Policy, step: int = 1, seed: int = 0
) -> dict[str, int]:
    """Cut the power after each call, open each step-th of the disks that may be left, check."""
    origin = tmp_path / "recorded"
    calls = recorded(origin, runs)
    disk, acks, seen = Disk(origin), b"", set[str]()
    found: Counter[str] = Counter()
    for number, call in enumerate(calls):
        if call.path == str(origin / _ACKS):
            acks += call.data
        else:
            disk.apply(call)
        left = disk.after_cut(policy, random.Random(f"{seed} {number}"))
        told = hashlib.sha256(acks + repr(sorted(left.items())).encode()).hexdigest()
        if told in seen:
            continue  # the same disk as after an earlier call
        seen.add(told)
        if len(seen) % step:
            continue
        folder = tmp_path / "cut"
        folder.mkdir()
        lay_out(left, folder)
        published(folder / "out")  # what a reader sees holds no key twice
        (folder / _ACKS).write_bytes(acks)
        found["lost"] += missing(folder)
        code, _ = runs.run(folder)
        assert code == 0, (policy, number, call[:4])
        found["runs"] += 1
        found += trouble(folder)
        shutil.rmtree(folder)
        if found["lost"]:
            break  # one is enough
    return {**found, "of": len(seen), "fired": found["runs"]}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_power_goes_at_some_instants(
    tmp_path: Path, runs: Runs, policy: Policy, table: Table
) -> None:
    """Every 23rd disk."""
    table.add(f"power cut, some: {policy}", **cuts(tmp_path, runs, policy, 23))


@pytest.mark.faults
@pytest.mark.parametrize("policy", POLICIES)
def test_the_power_goes_at_every_instant(
    tmp_path: Path, runs: Runs, policy: Policy, table: Table
) -> None:
    """Every disk, and `random` with three seeds, in the weekly run; else every eleventh."""
    seeds = weekly(3, 1) if policy == "random" else 1
    total: Counter[str] = Counter()
    for seed in range(seeds):
        (tmp_path / str(seed)).mkdir()
        total += Counter(cuts(tmp_path / str(seed), runs, policy, weekly(1, 11), seed))
    table.add(f"power cut, every: {policy}", **dict(total))
