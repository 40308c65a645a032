"""How a run's counts become its exit code and its last line."""

from __future__ import annotations

import re

import pytest

from pipeline.captioning.counters import RunCounters
from pipeline.captioning.select import Counts
from pipeline.commands import outcome
from pipeline.config.job import JobConfig, schema
from pipeline.errors import CODES, Exit, StopReason

LATER = StopReason(exit=Exit.LATER, message="the day is spent")


@pytest.mark.parametrize(
    ("captioned", "failed", "limited", "allowed", "expected"),
    [
        (10, {}, False, 0, Exit.DONE),
        (4, {}, True, 0, Exit.DONE),
        (4, {}, False, 0, Exit.LATER),
        (9, {"corrupt": 1}, False, 0, Exit.SOME_FAILED),
        (9, {"corrupt": 1}, False, 1, Exit.DONE),
        (4, {"corrupt": 1}, True, 0, Exit.SOME_FAILED),
        (4, {"corrupt": 1}, True, 1, Exit.DONE),
        (9, {"timeout": 1}, False, 0, Exit.LATER),
        (9, {"timeout": 1}, False, 1, Exit.DONE),
        (8, {"timeout": 1, "corrupt": 1}, False, 1, Exit.LATER),
        (4, {"timeout": 1}, True, 0, Exit.LATER),
        (0, {"missing_file": 10}, False, 0, Exit.SOME_FAILED),
    ],
)
def test_exit_code_of_a_run_that_nothing_stopped(
    captioned: int, failed: dict[str, int], limited: bool, allowed: int, expected: Exit
) -> None:
    """1 only for failures for good; what the next run asks by itself is 75; a limit is no
    failure."""
    counters = RunCounters(rows=10, images=10, captioned=captioned, failed=failed)
    reason = outcome.unfinished(counters, max_failed=allowed, limited=limited)
    assert outcome.exit_code(counters, reason, max_failed=allowed) is expected


@pytest.mark.parametrize("code", [Exit.SIGTERM, Exit.OUTPUT, Exit.KEY, Exit.LATER])
def test_a_reason_goes_before_failures(code: Exit) -> None:
    """Whatever failed meanwhile."""
    counters = RunCounters(images=10, captioned=3, failed={"corrupt": 1})
    reason = StopReason(exit=code, message="stopped")
    assert outcome.exit_code(counters, reason, max_failed=9) is code


def last_line(counters: RunCounters, reason: StopReason | None = None) -> str:
    return outcome.headline(counters, reason, dataset=None, asked=0, quota={})


def test_the_last_line_begins_with_the_error_and_ends_with_the_way_on() -> None:
    """An error is not the last clause; all of one code: the setting; `--retry` spelled out."""
    all_failed = RunCounters(images=3, failed={"missing_file": 3})
    line = last_line(all_failed)
    assert "images.root" in line
    assert line.endswith("--retry missing_file")
    stop = StopReason(exit=Exit.KEY, message="the service refuses this key")
    assert last_line(RunCounters(images=3), stop).startswith("the service refuses this key; 0 of 3")
    assert last_line(RunCounters(images=3), LATER).startswith("0 of 3")
    two_each = RunCounters(images=6, prompts=2, captioned=6)
    assert last_line(two_each).startswith("6 of 6 captions;")
    mixed = RunCounters(images=3, captioned=1, failed={"corrupt": 1, "timeout": 1})
    assert "--retry corrupt (" in last_line(mixed)
    assert "timeout" not in last_line(mixed).partition("--retry")[2]


@pytest.mark.parametrize(("code", "itself"), [("corrupt", True), ("refused", False)])
def test_the_last_line_asks_no_retry_for_a_file_that_was_replaced(code: str, itself: bool) -> None:
    line = last_line(RunCounters(images=2, captioned=1, failed={code: 1}))
    assert f"--retry {code}" in line
    assert ("a local file that was replaced, by itself, " in line) is itself


def test_remedies_name_settings_that_exist() -> None:
    """And codes that exist."""
    text = str(schema())
    for code, remedy in outcome.REMEDIES.items():
        assert code in CODES
        for section, key in re.findall(
            r"\b(images|endpoint|manifest|prompt|packing)\.(\w+)", remedy
        ):
            assert f"'{section}'" in text
            assert f"'{key}'" in text, remedy


@pytest.mark.parametrize(
    ("failed", "asked", "join", "expected"),
    [
        ({}, 0, False, "nothing left to ask, no request is sent"),
        ({"corrupt": 2}, 0, False, "nothing new to ask, no request is sent"),
        ({}, 2, True, "a join asks nothing, no request is sent"),
    ],
)
def test_the_first_line_of_a_run_that_asks_nothing(
    failed: dict[str, int], asked: int, join: bool, expected: str
) -> None:
    """No requests are announced that are not sent."""
    job = JobConfig.model_validate({"name": "job", "manifest": {"path": "photos/"}})
    counts = Counts(rows=9, images=9, captioned=7, failed=failed, asked=asked)
    assert outcome.opening(job, counts, "image", join=join).endswith(f"; {expected}")
