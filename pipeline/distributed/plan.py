"""Shards of a job: ranges of rows of one length, and what an earlier one asks already.

A shard skips the keys that first stand in an earlier shard, and knows those that the main output
has records of. Both are found once, by DuckDB in a child process, over the keys of all rows, and
lie in `<output>/shards/known-MARK.parquet`. The plan holds for one manifest, recipe and number of shards; it is made anew when these
change, which they may only while no shard holds something that is not joined.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import fs
from pipeline.captioning.inputs import inspect_manifest
from pipeline.distributed.known_keys import write_known
from pipeline.errors import JobError, OutputError
from pipeline.store.parts import own_parts
from pipeline.store.publish_plan import CAPTIONS, FAILURES
from pipeline.store.shards import SHARDS, unjoined

if TYPE_CHECKING:
    from pipeline.captioning.naming import Naming
    from pipeline.config.job import JobConfig
    from pipeline.manifest.open import Manifest

NAME = "plan.json"
#: Above so many rows repeats are not looked for: their keys alone take 2.4 GB on disk meanwhile.
MOST_ROWS = 100_000_000
NOT_LOOKED_FOR = (
    f"above {MOST_ROWS:,} rows repeats across shards are not looked for: a row whose picture stands in "
    "an earlier shard as well is asked again there"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All shards of a job."""

    #: Of what it was made from.
    mark: str
    shards: int
    #: Rows of the manifest's files, before `where`.
    rows: int
    #: What shards skip or know, as `known_keys` has it; None: nothing was looked for.
    known: Path | None

    @property
    def bounds(self) -> list[int]:
        """Where each shard begins, and at last where the rows end."""
        return [self.rows * number // self.shards for number in range(self.shards + 1)]

    def range_of(self, shard: int) -> tuple[int, int]:
        """The rows of a shard: from the first up to the second."""
        return self.rows * shard // self.shards, self.rows * (shard + 1) // self.shards


def plan_shards(job: JobConfig, shards: int) -> Plan:
    """The plan in the output's folder, made if it is not there. Blocking.

    JobError (78) when shards of another plan are not joined yet; ManifestError (65), OutputError (73).
    """
    manifest, naming = inspect_manifest(job)
    output = Path(job.output.path)
    folder = output / SHARDS
    try:
        fs.make_dir(folder)
        # So that readers see an output here before the first part is joined.
        fs.make_private_dir(output / "_state")
        for name in (CAPTIONS, FAILURES):
            fs.make_dir(output / name)
        with _alone(folder):
            mark = _mark(output, manifest, naming, shards)
            plan = _read(folder, mark)
            if plan is None:
                plan = _made(job, manifest, mark, shards)
    except OSError as error:
        raise OutputError(f"{folder}: this folder cannot be written ({error.strerror})") from error
    return plan


def _mark(output: Path, manifest: Manifest, naming: Naming, shards: int) -> str:
    parts = [
        [path.name, path.stat().st_size]
        for name in (CAPTIONS, FAILURES)
        for path in own_parts(output, name)
    ]
    facts = [manifest.fingerprint(), naming.recipe, naming.system, naming.identity, shards, parts]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _read(folder: Path, mark: str) -> Plan | None:
    noted = fs.read_object(folder / NAME)
    known = folder / f"known-{mark}.parquet"
    if noted.get("mark") != mark or (noted.get("known") and not known.exists()):
        return None
    path = known if noted["known"] else None
    return Plan(mark=mark, shards=noted["shards"], rows=noted["rows"], known=path)


def _made(job: JobConfig, manifest: Manifest, mark: str, shards: int) -> Plan:
    output = Path(job.output.path)
    folder = output / SHARDS
    if left := unjoined(output):
        raise JobError(
            f"{job.output.shown}: {len(left)} shards hold what was planned otherwise (another number of shards, "
            "manifest or recipe): wait until they have ended, then run --join"
        )
    rows = manifest.count()
    known = folder / f"known-{mark}.parquet" if rows <= MOST_ROWS else None
    if known is None and own_parts(output, CAPTIONS):
        raise JobError(
            f"{job.output.shown}: holds captions, and above {MOST_ROWS:,} rows shards do not look which: "
            "run without --shard, or choose another output.path"
        )
    plan = Plan(mark=mark, shards=shards, rows=rows, known=known)
    for path in folder.glob("known-*"):
        path.unlink()
    if known is not None:
        _in_child(job, plan.bounds, known)
    facts = {"mark": mark, "shards": shards, "rows": rows, "known": known is not None}
    fs.write_atomic(folder / NAME, json.dumps(facts).encode())
    return plan


def _in_child(job: JobConfig, bounds: list[int], known: Path) -> None:
    """Look at all keys, in a process of its own: what DuckDB takes goes with it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            pool.submit(write_known, job, bounds, known).result()
        except BrokenProcessPool as error:
            raise OutputError(
                f"{known}: the process that looks for repeated rows was killed (memory?); run again"
            ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process of this host plans, the others wait for it."""
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
