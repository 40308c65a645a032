"""`status` while a run is going on, and between runs: another process looks, none is disturbed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.status import lines, pace, pace_words, running_words
from tests.support.command import pipeline, simulator, start, until, write_job
from tests.support.pictures import folder_of


def test_status_of_a_run_that_goes_on(tmp_path: Path) -> None:
    """Counts, rate, the quota left and the time to go; after it what the run said itself."""
    images = folder_of(tmp_path, 40)
    env = {"CAPTION_PIPELINE_STATE": str(tmp_path / "state")}
    with simulator(tmp_path, "latency=[0.4, 0.5]", "rpm=null") as server:
        job = write_job(
            tmp_path,
            server.base,
            images,
            quota={"requests_per_minute": None, "requests_per_day": 30, "concurrency": 1},
        )
        process = start("run", job, env=env)
        seen: dict[str, Any] = {}

        def settled() -> bool:
            seen.update(pipeline("status", job, "--json", env=env).summary)
            live = seen["live"] or {
                "settled_this_run": 0
            }  # the lock comes before the first numbers
            return bool(seen["running"]) and live["settled_this_run"] >= 3

        until(settled)
        said = pipeline("status", job, env=env).out
        assert process.wait(60) == 75
    assert seen["quota"]["limit"] == 30
    assert 3 <= seen["quota"]["used"] <= 30
    assert seen["quota"]["left"] == 30 - seen["quota"]["used"]
    assert seen["per_minute"] > 0
    assert seen["eta_nights"] == 1, "40 images, 30 requests a day"
    assert "of 30 requests used that day" in said
    assert "about 1 more night" in said

    after = pipeline("status", job, "--json", env=env).summary
    assert (after["running"], after["eta_minutes"], after["per_minute"]) == (None, None, None)
    assert after["quota"] == after["last_run"]["quota"]
    assert after["quota"]["used"] == 30
    assert "30 of 30 requests used that day, 0 left, new at" in pipeline("status", job, env=env).out


LIVE = {
    "seconds": 60.0,
    "settled_this_run": 10,
    "to_settle": 40,
    "requests": 10,
    "refused": 0,
    "quota": {"limit": None, "used": 10, "weather": "open", "paused_until": None},
}


@pytest.mark.parametrize(
    ("quota", "words"),
    [
        ({}, ["about 3 minutes to go"]),
        ({"limit": 50, "left": 40, "resets_at": 86_400.0}, ["new at 1970-01-02 00:00:00 UTC"]),
        ({"weather": "closed"}, ["outage: nothing"]),
        ({"paused_until": 60.0}, ["paused until 1970-01-01 00:01:00 UTC"]),
    ],
)
def test_what_holds_it_up(quota: dict[str, Any], words: list[str]) -> None:
    """A pause, bad weather, the quota: each has its line."""
    live = {**LIVE, "quota": {**LIVE["quota"], **quota}}  # type: ignore[dict-item]
    said = "\n".join(pace_words({**pace(live, None), "live": live}))

    assert all(word in said for word in words), said
    assert "minutes to go" in said


def test_a_number_that_nobody_knows_is_not_said() -> None:
    """Of a manifest that tells nobody how long it is (compressed, tar): no total, no end."""
    live = {**LIVE, "more": True}
    facts = {**pace(live, None), "live": live}

    assert facts["eta_minutes"] is None
    assert not [line for line in pace_words(facts) if "to go" in line]
    assert running_words(facts)[0].startswith(f"{LIVE['settled_this_run']} settled, ")


def test_before_the_first_run(tmp_path: Path) -> None:
    """Nothing there yet is no error, and the keys are the same."""
    images = folder_of(tmp_path, 1)
    job = write_job(tmp_path, "http://127.0.0.1:9/v1", images)
    ended = pipeline("status", job, "--json")
    facts = json.loads(ended.out)

    assert ended.code == 0
    assert facts["quota"] == {"limit": None, "used": None, "left": None, "resets_at": None}
    assert lines(facts)[-1] == "no run has ended here yet"
