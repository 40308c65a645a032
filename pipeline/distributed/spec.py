"""`--shard I/N`: which of how many shards this process is, as written or as a scheduler says.

`auto` takes both from a Slurm array (`SLURM_ARRAY_TASK_ID` with `_MIN`, `_STEP` and `_COUNT`, sbatch(1)),
`auto/N` the number alone, from there or from a Kubernetes indexed Job (`JOB_COMPLETION_INDEX`, from 0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.patterns import lazy

#: More shards than this are a mistake.
MOST = 100_000
_WRITTEN = lazy(r"(?P<number>\d{1,9}|auto)(?:/(?P<count>\d{1,9}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardNumber:
    """One of the shards of a job."""

    #: From 0.
    number: int
    count: int
    #: A scheduler says so: the others may run on other hosts.
    scheduled: bool


def read_shard(text: str, environ: Mapping[str, str]) -> ShardNumber:
    """`--shard` as a number. UsageError (64) when it is none, or the environment does not say."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None or (match["number"] != "auto" and match["count"] is None):
        raise UsageError(
            f"--shard {text}: write I/N, I from 0 to N-1; or auto, auto/N below a scheduler"
        )
    count = None if match["count"] is None else int(match["count"])
    if match["number"] != "auto":
        shard = ShardNumber(number=int(match["number"]), count=count or 0, scheduled=False)
    elif "SLURM_ARRAY_TASK_ID" in environ:
        shard = _of_slurm(environ, count)
    elif "JOB_COMPLETION_INDEX" in environ:
        if count is None:
            raise UsageError("--shard auto: Kubernetes does not say how many: write auto/N")
        number = _number(environ, "JOB_COMPLETION_INDEX")
        shard = ShardNumber(number=number, count=count, scheduled=True)
    else:
        raise UsageError(
            f"--shard {text}: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set: write I/N"
        )
    if not (1 <= shard.count <= MOST and shard.number < shard.count):
        raise UsageError(
            f"--shard {text}: is shard {shard.number} of {shard.count}; there are 0 to N-1, "
            f"and at most {MOST:,}"
        )
    return shard


def _of_slurm(environ: Mapping[str, str], count: int | None) -> ShardNumber:
    task, size = _number(environ, "SLURM_ARRAY_TASK_ID"), _number(environ, "SLURM_ARRAY_TASK_COUNT")
    if count is not None and count != size:
        # A part of the array, submitted again: its ids are the shards.
        return ShardNumber(number=task, count=count, scheduled=True)
    first, last = (
        _number(environ, "SLURM_ARRAY_TASK_MIN"),
        _number(environ, "SLURM_ARRAY_TASK_MAX"),
    )
    step = (last - first) // max(1, size - 1) or 1
    if first + step * (size - 1) != last or (task - first) % step:
        raise UsageError(
            "--shard auto: the array's ids do not follow each other at one distance: write auto/N, "
            "and ids from 0 to N-1"
        )
    return ShardNumber(number=(task - first) // step, count=size, scheduled=True)


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    if not re.fullmatch(r"\d{1,9}", text):
        raise UsageError(f"--shard auto: {name}={text!r} is no number")
    return int(text)
