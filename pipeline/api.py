"""`run` and `plan` as functions, for notebooks and other programs.

    from pipeline import plan_job, run_job

    print(plan_job("job.yaml")["nights"])
    run = run_job("job.yaml", limit=100)
    for progress in run:
        print(progress.captioned, "of", progress.images)
    print(run.result()["cost_usd"])

Each works in a thread with an event loop of its own, as a notebook's is busy already. Signal handlers
stay the caller's.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.captioning.inputs import this_environment
from pipeline.captioning.options import RunOptions
from pipeline.captioning.output_location import placed
from pipeline.commands.engine import goes_to_ray
from pipeline.commands.plan import plan_of
from pipeline.commands.run import announced, loop_factory
from pipeline.commands.run_report import RunReport
from pipeline.config.job import JobConfig, environment, load_job
from pipeline.errors import JobError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a run has done so far. Counts of images are of the whole manifest, the rest of this run."""

    images: int
    captioned: int
    failed: int
    left: int
    requests: int
    refused: int
    cost_usd: float
    #: Since the run began.
    seconds: float


class JobRun:
    """A run that goes on in a thread of its own. Iterate for progress; `result` for the summary."""

    def __init__(self, report: RunReport, summary: Future[dict[str, Any]]) -> None:
        self._report, self._summary = report, summary

    @property
    def progress(self) -> Progress:
        """As it is now."""
        counters = self._report.counters
        return Progress(
            images=counters.images,
            captioned=counters.captioned,
            failed=counters.failures,
            left=counters.left,
            requests=counters.requests,
            refused=counters.refused,
            cost_usd=counters.cost_usd,
            seconds=self._report.seconds,
        )

    def __iter__(self) -> Iterator[Progress]:
        """The progress every second until the run has ended, and as it was then. What ended the run
        badly is raised by `result`."""
        while wait([self._summary], timeout=1.0).not_done:
            yield self.progress
        yield self.progress

    def result(self) -> dict[str, Any]:
        """Wait for the end: the summary object of `run --json` (docs/json.md). What `run` ends with
        for a reason is in it (`exit_code`, `reason`); PipelineError for what kept it from beginning."""
        return self._summary.result()

    def stop(self) -> None:
        """Ask nothing more; answers under way are waited for. Running again goes on from there."""
        self._report.signals.stop()


def run_job(
    job: str | Path,
    *,
    set: Mapping[str, object] | None = None,  # noqa: A002 - the option of `run`
    **options: Any,
) -> JobRun:
    """Start `run JOB` and return at once.

    set: keys of the job file to override, as `{"quota.concurrency": 4}`. options: those of
    `pipeline.captioning.options.RunOptions`, as `limit=100`, `retry=("timeout",)`, `yes=True`.
    JobError (78) and UsageError (64) for a job or option that is wrong.
    """
    loaded, environ = _loaded(job, set)
    chosen = RunOptions(**options)
    if goes_to_ray(loaded, chosen):
        raise JobError("run.engine: ray starts processes of its own: use the command run for it")
    surroundings = this_environment(environ)
    report = RunReport(loaded.name, loaded.output.shown, surroundings.clock)

    def work() -> dict[str, Any]:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            try:
                return runner.run(announced(loaded, chosen, surroundings, report))
            except BaseException as error:  # noqa: BLE001 - each ending has its summary
                decisive, _ = report.failed(error)
                raise decisive from None

    return JobRun(report, _in_thread(work))


def plan_job(
    job: str | Path,
    *,
    set: Mapping[str, object] | None = None,  # noqa: A002 - the option of `plan`
) -> dict[str, Any]:
    """What a run would take, as the object of `plan --json` (docs/json.md); sends no request that
    counts. PipelineError as the command has them."""
    loaded, environ = _loaded(job, set)
    return _in_thread(lambda: plan_of(loaded, environ, this_environment(environ))).result()


def _loaded(
    job: str | Path, overrides: Mapping[str, object] | None
) -> tuple[JobConfig, dict[str, str]]:
    environ = environment(os.environ, Path.cwd())
    texts = [f"{key}={_text(value)}" for key, value in (overrides or {}).items()]
    return placed(load_job(Path(job), texts, environ), environ), environ


def _text(value: object) -> str:
    """A value as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def _in_thread(work: Callable[[], T]) -> Future[T]:
    executor = ThreadPoolExecutor(1, thread_name_prefix="caption-pipeline")
    future = executor.submit(work)
    executor.shutdown(wait=False)
    return future
