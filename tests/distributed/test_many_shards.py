"""A job of 10^9 rows in 10,000 shards: plan, schedule and markers of the driver, over an engine that asks nobody."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning.options import RunOptions
from pipeline.commands.ray_engine import Driver, left_shards
from pipeline.commands.signals import StopSignals
from pipeline.config.job import load_job
from pipeline.distributed.plan import plan_shards
from pipeline.distributed.ray_cluster import WorkerGone
from pipeline.errors import Exit, StopReason
from tests.support.command import write_job

pytestmark = pytest.mark.weekly

ROWS, GROUPS, SHARDS, PLACES = 1_000_000_000, 1_000, 10_000, 64
#: The driver is stopped when so many have ended.
FIRST = 4_000
#: Every so manyth shard loses its worker once.
LOST = 50
#: MB that plan and schedule may take.
MEMORY = 1_000


def manifest(path: Path) -> Path:
    """10^9 rows in a file of some kilobytes: one value, run-length encoded."""
    group = ROWS // GROUPS
    index = pa.array([0], pa.int32()).take(pa.repeat(pa.scalar(0), group))
    images = pa.DictionaryArray.from_arrays(index, ["https://images.example/a.jpg"])
    table = pa.table({"image": images})
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(GROUPS):
            writer.write_table(table, row_group_size=group)
    return path


class Engine:
    """Stands for Ray: a task ends when it is looked at; some workers die once; a stop ends them all."""

    places = PLACES

    def __init__(self, signals: StopSignals, stop_after: int | None) -> None:
        self.started, self.ended_well = Counter[str](), list[str]()
        self._signals, self._stop_after = signals, stop_after
        self._lost = set[str]()

    def submit(self, _work: Callable[..., Any], _job: Any, options: RunOptions, *_: Any) -> str:
        assert options.shard is not None
        self.started[options.shard] += 1
        return options.shard

    def ended(self, refs: Sequence[str], _seconds: float) -> list[str]:
        return list(refs[:1])

    def result(self, ref: str) -> dict[str, Any]:
        number = int(ref.partition("/")[0])
        if number % LOST == 0 and ref not in self._lost:
            self._lost.add(ref)
            raise WorkerGone("killed")
        if self._signals.reason is not None:
            return {"exit_code": Exit.SIGINT, "reason": "stopped"}
        self.ended_well.append(ref)
        if len(self.ended_well) == self._stop_after:
            self._signals.reason = StopReason(exit=Exit.SIGINT, message="stopped")
        return {"exit_code": Exit.DONE, "reason": None, "requests": 0}

    def head_answers(self) -> bool:
        return True

    def tell(self, _method: str, *_: Any) -> None: ...

    def cancel(self, _ref: str, *, force: bool = False) -> None: ...


class Figures(NamedTuple):
    """Of one driver."""

    plan: float
    whole: float
    cpu: float
    megabytes: float
    left: int
    started: Counter[str]
    ended_well: list[str]


def driven(path: Path, stop_after: int | None) -> Figures:
    """Plan and run a job to its end, or until it is stopped. In a process of its own."""
    began = time.monotonic()
    job, options, signals = load_job(path), RunOptions(), StopSignals()
    plan = plan_shards(job, SHARDS)
    planned = time.monotonic()
    left = left_shards(job, options, plan)
    engine: Any = Engine(signals, stop_after)
    Driver(engine, job, options, plan, left, signals).run(engine)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Figures(
        plan=planned - began,
        whole=time.monotonic() - began,
        cpu=used.ru_utime + used.ru_stime,
        megabytes=used.ru_maxrss / 1000,
        left=len(left),
        started=engine.started,
        ended_well=engine.ended_well,
    )


def test_ten_thousand_shards_are_planned_run_and_resumed(tmp_path: Path) -> None:
    """Each shard ends well once over two drivers, of which the first is stopped; a third has nothing
    to do, and none takes more than 1 GB."""
    table = manifest(tmp_path / "table.parquet")
    path = write_job(tmp_path, "http://127.0.0.1:9/v1", table)
    figures = []
    for stop_after in (FIRST, None, None):
        # Of its own, so that its peak of memory is.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            figures.append(pool.submit(driven, path, stop_after).result())
        last = figures[-1]
        print(
            f"{last.left:,} of {SHARDS:,} shards of {ROWS:,} rows: plan {last.plan:.1f} s, with schedule and "
            f"markers {last.whole:.1f} s ({last.cpu:.1f} s of CPU), {last.megabytes:.0f} MB"
        )
    first, second, third = figures
    ended = Counter(first.ended_well + second.ended_well)

    assert len(first.ended_well) == FIRST
    assert (first.left, second.left, third.left) == (SHARDS, SHARDS - FIRST, 0)
    assert len(ended) == SHARDS
    assert set(ended.values()) == {1}
    assert max(second.started.values()) == 2  # whose worker had died
    assert len(list((tmp_path / "out/_state/shards").iterdir())) == SHARDS
    assert max(each.megabytes for each in figures) < MEMORY
