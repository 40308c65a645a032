"""`run_job` and `plan_job`: a run from a program or a notebook, whose event loop is busy."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

import pipeline
from pipeline import Progress, plan_job, run_job
from pipeline.errors import JobError, ManifestError, UsageError
from tests.support.pictures import folder_of


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAPTION_PIPELINE_STATE", str(tmp_path / "state"))
    path = tmp_path / "job.yaml"
    sections = {
        "manifest": {"path": str(folder_of(tmp_path, 6))},
        "endpoint": {"profile": "embedded", "model": "embedded/pixels"},
        "output": {"path": str(tmp_path / "out")},
        "run": {"min_free": 0},
    }
    path.write_text(json.dumps(sections))
    return path


def test_a_run_from_a_notebook(job: Path) -> None:
    """Inside a running event loop: the plan, progress as it goes, the summary at the end."""

    async def cell() -> None:
        assert plan_job(job)["to_ask"] == 6
        run = run_job(job, set={"quota.concurrency": 2}, limit=4)
        seen = list(run)
        assert all(isinstance(progress, Progress) for progress in seen)
        assert (seen[-1].captioned, seen[-1].requests) == (4, 4)
        assert (run.result()["exit_code"], run.result()["left"]) == (0, 2)

    asyncio.run(cell())
    assert run_job(job).result()["captioned"] == 6
    assert plan_job(job, set={"prompt.text": "Tags."})["to_ask"] == 6


def test_a_run_that_is_stopped_goes_on_later(job: Path) -> None:
    """`stop` waits for what is under way, and the next run asks the rest."""
    run = run_job(job, set={"quota": {"requests_per_minute": 6, "concurrency": 1}})
    for progress in run:
        if progress.captioned:
            run.stop()
    first = run.result()
    again = run_job(job).result()

    assert (first["exit_code"], again["exit_code"]) == (130, 0)
    assert first["requests"] + again["requests"] == 6


def test_what_is_wrong_is_raised(job: Path, tmp_path: Path) -> None:
    """Before the start where that can be known, else by `result`."""
    with pytest.raises(JobError, match="no such job file"):
        run_job(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="no such code"):
        run_job(job, retry=("bogus",))
    with pytest.raises(UsageError, match="concurrency"):
        run_job(job, set={"quota.concurrency": "many"})
    with pytest.raises(ManifestError):
        run_job(job, set={"manifest.path": str(tmp_path / "none.csv")}).result()


def test_what_the_package_offers() -> None:
    """The names stand in `__all__`; another one is an error as in any module."""
    assert all(hasattr(pipeline, name) for name in pipeline.__all__)
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        pipeline.frobnicate  # noqa: B018
