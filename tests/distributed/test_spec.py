"""Which shard a process is, as written, or as Slurm and Kubernetes say; and its part of the limits."""

from __future__ import annotations

import pytest

from pipeline.distributed.spec import read_shard
from pipeline.errors import JobError, UsageError
from pipeline.model import Limits
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.ratelimit.split import split_limits, split_settings


def slurm(task: int, first: int, last: int, count: int) -> dict[str, str]:
    """The environment of one task of an array."""
    facts = {"ID": task, "MIN": first, "MAX": last, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in facts.items()}


@pytest.mark.parametrize(
    ("text", "environ", "shard"),
    [
        ("0/1", {}, (0, 1, False)),
        ("3/4", {}, (3, 4, False)),
        ("3/4", slurm(0, 0, 7, 8), (3, 4, False)),
        ("auto", slurm(0, 0, 3, 4), (0, 4, True)),
        ("auto", slurm(3, 0, 3, 4), (3, 4, True)),
        ("auto", slurm(1, 1, 4, 4), (0, 4, True)),
        ("auto", slurm(4, 1, 4, 4), (3, 4, True)),
        ("auto", slurm(30, 10, 30, 3), (2, 3, True)),
        ("auto", slurm(5, 5, 5, 1), (0, 1, True)),
        ("auto/4", slurm(1, 1, 4, 4), (0, 4, True)),
        ("auto/8", slurm(3, 3, 3, 1), (3, 8, True)),
        ("auto/4", {"JOB_COMPLETION_INDEX": "2"}, (2, 4, True)),
    ],
)
def test_the_number_of_a_shard(
    text: str, environ: dict[str, str], shard: tuple[int, int, bool]
) -> None:
    """From 0, wherever the array starts and whatever its step is."""
    read = read_shard(text, environ)

    assert (read.number, read.count, read.scheduled) == shard


@pytest.mark.parametrize(
    ("text", "environ", "word"),
    [
        ("4/4", {}, "0 to N-1"),
        ("0/0", {}, "0 to N-1"),
        ("1", {}, "write I/N"),
        ("1/two", {}, "write I/N"),
        ("-1/4", {}, "write I/N"),
        ("0/100001", {}, "at most"),
        ("auto", {}, "neither"),
        ("auto", {"JOB_COMPLETION_INDEX": "2"}, "auto/N"),
        ("auto/2", {"JOB_COMPLETION_INDEX": "2"}, "shard 2 of 2"),
        ("auto/2", {"JOB_COMPLETION_INDEX": ""}, "no number"),
        ("auto", slurm(3, 1, 7, 3), "ids do not follow"),
        ("auto", slurm(1, 1, 8, 3), "ids do not follow"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_COUNT"),
    ],
)
def test_what_is_no_shard(text: str, environ: dict[str, str], word: str) -> None:
    """One line that says what to write."""
    with pytest.raises(UsageError, match=word):
        read_shard(text, environ)


def test_what_shards_keep_together_is_the_whole_limit_at_most() -> None:
    """Every limit is divided between hosts, rounded down; on one host what no ledger holds."""
    quota = QuotaSettings(
        requests_per_minute=20.0,
        requests_per_day=50,
        tokens_per_minute=1_000,
        concurrency=8,
        max_cost_usd=10.0,
    )
    limits = Limits(
        requests_per_minute=20.0, requests_per_day=1_000, tokens_per_minute=70, used_today=10
    )

    split = split_settings(quota, 3, hosts=True)
    assert split.requests_per_minute == pytest.approx(20 / 3)
    assert (split.requests_per_day, split.tokens_per_minute, split.concurrency) == (16, 333, 2)
    assert split.max_cost_usd == pytest.approx(10 / 3)
    part = split_limits(limits, 3, hosts=True)
    assert part.requests_per_minute == pytest.approx(20 / 3)
    assert (part.requests_per_day, part.tokens_per_minute, part.used_today) == (333, 23, 4)
    shared = split_settings(quota, 3, hosts=False)
    assert (shared.requests_per_minute, shared.requests_per_day) == (20.0, 50)
    assert (shared.tokens_per_minute, shared.concurrency) == (333, 2)
    assert split_limits(limits, 3, hosts=False).requests_per_day == 1_000
    assert split_settings(quota, 100, hosts=False).concurrency == 1
    with pytest.raises(JobError, match="cannot share requests_per_day 50"):
        split_settings(quota, 51, hosts=True)
    nothing = split_limits(Limits(), 3, hosts=True)
    assert nothing == Limits()
