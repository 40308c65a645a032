"""`run` with `run.engine: ray`: plan, a shard a task, one quota actor, and the join at the end.

The driver asks nothing itself. It starts shards as places become free, starts those again whose worker
died, and when it is told to stop ends the gate first, so that no request begins, then waits until what is
under way has been answered. A rerun goes on with what is left, with or without Ray.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import fs
from pipeline.captioning.inputs import this_environment
from pipeline.captioning.options import RunOptions
from pipeline.captioning.output_location import state_folder
from pipeline.commands import notify, outcome
from pipeline.commands.ray_shard import key_digest, run_shard
from pipeline.commands.run import loop_factory, run, run_if_settled
from pipeline.commands.run_report import RunReport
from pipeline.commands.shards_status import last_of
from pipeline.commands.signals import StopSignals
from pipeline.distributed.calls import Setting
from pipeline.distributed.plan import Plan, plan_shards
from pipeline.distributed.ray_cluster import Cluster, RemoteQuota, WorkerGone, connected
from pipeline.distributed.schedule import AGAIN, OVER, Schedule
from pipeline.distributed.shard import refuse_shards
from pipeline.errors import Exit, JobError, KeyTrouble, OutputError, ServiceError, StopReason
from pipeline.store.parts import own_parts
from pipeline.store.publish_plan import CAPTIONS, FAILURES
from pipeline.store.shards import shard_name, unjoined

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig

#: Seconds between two looks at signals and silent workers.
LOOK = 0.5
#: A worker that has said nothing for so long is taken for dead. Ray finds a node out after 65 s (five
#: missed checks 13 s apart); its worker may live on meanwhile.
SILENT = 90.0
#: Seconds between two looks at the head's port, and how long nobody may be there: well below the minute
#: after which Ray ends the driver with 1.
HEAD, HEAD_GONE = 3.0, 20.0
#: Where the summaries of ended shards lie, below the output.
DONE = "_state/shards"


def run_on_ray(job: JobConfig, options: RunOptions, environ: Mapping[str, str]) -> int:
    """`run` on Ray; returns the exit code."""
    refuse(job, options)
    clock = this_environment(environ).clock
    report = RunReport(job.name, job.output.shown, clock)
    asyncio.run(notify.ping(job.notify.url, "start"))
    try:
        summary = _run(job, options, environ, report)
    except BaseException as error:  # noqa: BLE001 - each ending has its summary
        decisive, summary = report.failed(error)
        asyncio.run(notify.ping(job.notify.url, "fail", str(summary.get("reason"))))
        if options.json:
            print(json.dumps(summary))  # noqa: T201 - the command's result
        raise decisive from None
    code = summary["exit_code"]
    asyncio.run(notify.ping(job.notify.url, notify.ending(code), outcome.in_short(summary)))
    if options.json:
        print(json.dumps(summary))  # noqa: T201 - the command's result
    return int(code)


def refuse(job: JobConfig, options: RunOptions) -> None:
    """UsageError (64), JobError (78) for what goes without shards."""
    replace(options, shard="0/1")  # the same options as a shard's
    if options.limit is not None:
        raise JobError("run.engine: ray goes without --limit: set run.engine=local for a part")
    if job.endpoints:
        raise JobError("run.engine: ray takes one endpoint: set run.engine=local for endpoints")
    refuse_shards(job)


def _run(
    job: JobConfig, options: RunOptions, environ: Mapping[str, str], report: RunReport
) -> dict[str, Any]:
    """Ray starts only where something is left: neither for an output that is done nor for shards that
    have ended and are not joined yet."""
    if (summary := _if_settled(job, options, environ, report)) is not None:
        return summary
    plan = plan_shards(job, job.run.shards)
    left = left_shards(job, options, plan)
    reason, summaries = None, list[dict[str, Any]]()
    if left:
        # Ray sets handlers of its own when it starts, which end the process without a drain.
        with connected(job.run.ray) as cluster, report.signals.installed(_forced):
            _check_keys(cluster, job, environ)
            report.signals.finishing()
            setting = Setting(
                quota=job.quota,
                output=str(Path(job.output.path).absolute()),
                state=str(state_folder(environ).absolute()),
            )
            driver = Driver(cluster, job, options, plan, left, report.signals)
            driver.run(cluster.start_quota(setting, job.run.shards))
        reason, summaries = report.signals.reason or driver.reason, driver.summaries
    if reason is None:
        if not options.quiet:
            print(f"caption-pipeline: {plan.shards} shards have ended", file=sys.stderr)  # noqa: T201
        return _joined(job, options, environ, report, summaries)
    own = report.summary(reason.exit, reason)
    if not options.quiet:
        print(f"caption-pipeline: {reason.message}", file=sys.stderr)  # noqa: T201
    shards = last_of(summaries) or {}
    kept = ("run_id", "job", "exit_code", "reason", "resume_after", "output", "dataset", "seconds")
    return {**own, **{name: shards[name] for name in own if name in shards and name not in kept}}


def _if_settled(
    job: JobConfig, options: RunOptions, environ: Mapping[str, str], report: RunReport
) -> dict[str, Any] | None:
    """What one machine says of an output that holds everything already."""
    output = Path(job.output.path)
    if unjoined(output) or not (own_parts(output, CAPTIONS) or own_parts(output, FAILURES)):
        return None
    surroundings = this_environment(environ, None if options.quiet else sys.stderr)
    with (
        report.signals.installed(_forced),
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        return runner.run(run_if_settled(job, options, surroundings, report))


def _joined(
    job: JobConfig,
    options: RunOptions,
    environ: Mapping[str, str],
    report: RunReport,
    summaries: list[dict[str, Any]],
) -> dict[str, Any]:
    """The shards' parts in the main output, and what all of them came to."""
    join = RunOptions(join=True, quiet=options.quiet, take_over=options.take_over)
    surroundings = this_environment(environ, None if options.quiet else sys.stderr)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        summary = runner.run(run(job, join, surroundings, report))
    names = ("requests", "refused", "prompt_tokens", "completion_tokens", "cost_usd")
    sums = last_of(summaries) or {}
    return {
        **summary,
        **{name: sums[name] for name in (*names, "captions_per_request") if name in sums},
    }


def _forced(reason: StopReason) -> None:
    print(f"caption-pipeline: {reason.message}", file=sys.stderr)  # noqa: T201 - the last line


def _check_keys(cluster: Cluster, job: JobConfig, environ: Mapping[str, str]) -> None:
    """KeyTrouble (77) unless each node has the key that is here: it is never sent to them."""
    from pipeline.service.endpoint import endpoint_of

    endpoint_of(job.endpoint, environ)
    variable = job.endpoint.api_key_env
    if variable is None:
        return
    salt, folder = secrets.token_hex(16), str(Path.cwd())
    here = key_digest(variable, salt, folder)
    for address, there in cluster.on_each(key_digest, variable, salt, folder):
        if there != here:
            fault = "is not set" if there is None else "is another"
            raise KeyTrouble(
                f"{variable} {fault} on Ray's node {address}: set it where Ray is started there, or in a .env "
                f"(mode 0600) in {folder}"
            )


def left_shards(job: JobConfig, options: RunOptions, plan: Plan) -> list[int]:
    """Those whose marker does not say that this plan is done with them."""
    done = Path(job.output.path) / DONE
    left, again = [], options.retry_failed or bool(options.retry)
    noted = {path.name for path in done.glob("*")} if done.is_dir() else set()
    for shard in range(plan.shards):
        name = shard_name(shard)
        marker = fs.read_object(done / name) if name in noted else {}
        good = marker.get("mark") == plan.mark
        if good and (
            marker["code"] == Exit.DONE or (marker["code"] == Exit.SOME_FAILED and not again)
        ):
            continue
        left.append(shard)
    return left


class Driver:
    """Shards, started and watched until all have ended or the job has."""

    def __init__(
        self,
        cluster: Cluster,
        job: JobConfig,
        options: RunOptions,
        plan: Plan,
        left: Sequence[int],
        signals: StopSignals,
    ) -> None:
        self._cluster, self._job, self._options, self._plan = cluster, job, options, plan
        self._signals = signals
        self._done = Path(job.output.path) / DONE
        #: Why the job ends before its work does.
        self.reason: StopReason | None = None
        #: Of the shards that have ended in this run.
        self.summaries: list[dict[str, Any]] = []
        #: Reference -> shard, worker.
        self._running: dict[Any, tuple[int, str]] = {}
        #: When the head was looked at, and when somebody was there.
        self._head_looked = self._head_at = 0.0
        self._schedule = Schedule(left)

    def run(self, quota: RemoteQuota) -> None:
        """Until every shard has ended, or the job has to."""
        started = time.monotonic()
        places, looked, stopped_at = self._cluster.places, started, None
        self._head_looked = self._head_at = started
        while self._running or (len(self._schedule) and self.reason is None):
            now = time.monotonic()
            self._look_at_head(now)
            if self.reason is None and self._signals.reason is not None:
                self._stop(self._signals.reason)
            if self.reason is None:
                self._start(quota, places, now)
            elif stopped_at is None:
                stopped_at = now
            elif now - stopped_at > self._job.run.drain + SILENT:
                break  # whoever is left ends with the driver
            ended = self._cluster.ended(list(self._running), LOOK)
            for ref in ended:
                self._end(ref, time.monotonic())
            if not self._running and not ended:
                time.sleep(LOOK)  # what is left waits for its time
            if now - looked > SILENT / 10 and self._cluster.head_answers():
                looked, places = now, self._cluster.places
                self._look(now)

    def _start(self, quota: RemoteQuota, places: int, now: float) -> None:
        while len(self._running) < places and (shard := self._schedule.start(now)) is not None:
            worker = f"{shard_name(shard)}-{secrets.token_hex(4)}"
            options = replace(
                self._options, shard=f"{shard}/{self._plan.shards}", quiet=True, json=False
            )
            ref = self._cluster.submit(
                run_shard,
                self._job,
                options,
                worker,
                quota,
                os.getcwd(),  # noqa: PTH109 - as text
                self._plan.mark,
            )
            self._running[ref] = (shard, worker)

    def _end(self, ref: Any, now: float) -> None:
        """A task has ended, one way or the other."""
        shard, worker = self._running.pop(ref)
        self._cluster.tell("forget", worker)
        try:
            summary = self._cluster.result(ref)
        except WorkerGone as gone:
            if self.reason is None:
                self._again(shard, str(gone), now)
            return
        code = Exit(summary["exit_code"])
        if self.reason is not None or code in OVER:
            self._note(shard, summary)
            facts = (
                self._cluster.tell("facts") if code is Exit.LATER and self.reason is None else None
            )
            if facts and facts["reason"] is not None:
                self._stop(facts["reason"])
        elif code in AGAIN:
            self._again(shard, summary["reason"], now)
        else:
            self._note(shard, summary)
            self._stop(StopReason(exit=code, message=summary["reason"] or "", resume_after=None))

    def _again(self, shard: int, why: str, now: float) -> None:
        print(f"caption-pipeline: shard {shard}: its worker is gone ({why})", file=sys.stderr)  # noqa: T201
        if (reason := self._schedule.died(shard, why, now)) is not None:
            self._stop(reason)

    def _look_at_head(self, now: float) -> None:
        """ServiceError (69) when the cluster's head is gone, and its nodes will end."""
        if now - self._head_looked < HEAD:
            return
        self._head_looked = now
        if self._cluster.head_answers():
            self._head_at = now
        elif now - self._head_at > HEAD_GONE:
            raise ServiceError(
                f"run.ray.address: nobody is at Ray's head ({self._job.run.ray.address}) any more, its nodes end within "
                "a minute: start a cluster, then run again to go on"
            )

    def _look(self, now: float) -> None:
        """Take workers for dead that the actor has not heard for long, though Ray has not said so."""
        facts = self._cluster.tell("facts")
        for ref, (_, worker) in list(self._running.items()):
            if facts and facts["silent"].get(worker, 0.0) > SILENT:
                self._cluster.cancel(ref, force=True)

    def _stop(self, reason: StopReason) -> None:
        """First the gate, so that no request begins; then the tasks, which wait for their answers."""
        self.reason = reason
        self._cluster.tell("stop", reason)
        for ref in list(self._running):
            self._cluster.cancel(ref)

    def _note(self, shard: int, summary: dict[str, Any]) -> None:
        """Keep how a shard ended: a rerun of this plan does not start it again."""
        self.summaries.append(summary)
        marker = {"mark": self._plan.mark, "code": summary["exit_code"]}
        try:
            fs.make_private_dir(self._done)
            fs.write_atomic(
                self._done / shard_name(shard), json.dumps(marker).encode(), private=True
            )
        except OSError as error:
            raise OutputError(f"{self._done}: cannot be written ({error.strerror})") from error
