"""One job's nightly run, and how jobs on one account share its day. Pure."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import JobError

#: Seconds after the reset at which a run starts: the quota counts no request before that.
MARGIN = 5
#: A run that failed to start a night is started again after the machine came up, so much later.
AFTER_BOOT = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledJob:
    """What is to be started, when and where. All paths are absolute."""

    job: Path
    #: The folder the run starts in: relative paths of the job and its `.env` are found there.
    folder: Path
    python: Path
    #: Zone of the midnight at which the quota is new.
    zone: str
    #: Those of further endpoints, where they have others: a run starts at each one's midnight.
    also: tuple[str, ...] = ()
    #: Requests a day for this job; None: no share, the account's day is its own.
    share: int | None = None
    #: File of KEY=VALUE lines that holds the key; None: `.env` in the folder.
    env_file: Path | None = None
    #: The user a system-wide service runs as; None: a unit of the user's own manager.
    user: str | None = None
    #: Seconds the run takes at most to end after a signal.
    ending: int = 120

    def __post_init__(self) -> None:
        for path in (self.job, self.folder, self.python, self.env_file):
            if path is not None and re.search(r"[\x00-\x1f\x7f]", str(path)):
                raise JobError(f"{str(path)!r}: a path with control characters fits in no timer")

    @property
    def zones(self) -> tuple[str, ...]:
        """All of them."""
        return (self.zone, *self.also)

    @property
    def name(self) -> str:
        """Name of the units: the file's stem for people, a digest since stems repeat."""
        return unit_name(self.job)

    @property
    def command(self) -> list[str]:
        """What is run."""
        arguments = [str(self.python), "-m", "pipeline", "run", str(self.job)]
        if self.share is not None:
            arguments += ["--set", f"quota.requests_per_day={self.share}"]
        return arguments


def unit_name(job: Path) -> str:
    """`caption-photos-1a2b3c`, from the absolute path alone, so that it can be removed later."""
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", job.stem).strip("-")[:60] or "job"
    return f"caption-{stem}-{hashlib.sha256(os.fsencode(job)).hexdigest()[:6]}"


def shares(daily: int, weights: Sequence[int]) -> list[int]:
    """A day's requests divided by weight; together they are exactly the day.

    Largest remainders, the earlier job first where they are equal. JobError when a job would get
    none.
    """
    total = sum(weights)
    exact = [divmod(daily * weight, total) for weight in weights]
    counts = [whole for whole, _ in exact]
    by_rest = sorted(range(len(weights)), key=lambda at: -exact[at][1])
    for at in by_rest[: daily - sum(counts)]:
        counts[at] += 1
    if 0 in counts:
        raise JobError(
            f"{daily} requests a day do not go round {len(weights)} jobs by these weights; "
            "name fewer jobs, or weights nearer to each other"
        )
    return counts
