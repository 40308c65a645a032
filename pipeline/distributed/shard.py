"""One shard of a job as a job of its own: its rows, its folder, its part of the limits."""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.captioning.output_location import of_shard
from pipeline.distributed.known_keys import read_known
from pipeline.distributed.plan import NOT_LOOKED_FOR, plan_shards
from pipeline.distributed.spec import ShardNumber, read_shard
from pipeline.errors import Held, JobError
from pipeline.manifest.settings import ManifestRange
from pipeline.model import Limits
from pipeline.ratelimit.protocol import RequestGate
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.ratelimit.split import split_limits, split_settings
from pipeline.store.keys import KeyMap
from pipeline.store.lock import holder_of
from pipeline.store.settings import Elsewhere
from pipeline.store.shards import shard_name

if TYPE_CHECKING:
    from pipeline.captioning.inputs import Environment
    from pipeline.config.job import JobConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """What a run works on as a shard."""

    job: JobConfig
    environment: Environment
    #: Keys that an earlier shard asks.
    elsewhere: KeyMap
    #: Keys that the main output has a record of -> `ok`, or the code of the failure.
    recorded: dict[str, str]
    #: What whoever starts it has to know.
    warning: str | None = None


def as_shard(job: JobConfig, text: str, environment: Environment) -> Shard:
    """The shard that `--shard TEXT` names; plans all of them where nobody has yet. Blocking.

    UsageError (64), JobError (78), ManifestError (65), OutputError (73); Held (76) while the whole
    job runs.
    """
    shard = read_shard(text, environment.environ)
    refuse_shards(job)
    output = Path(job.output.path)
    if holder := holder_of(output / "_state" / "lock"):
        raise Held(f"{job.output.shown}: a run without --shard holds this output ({holder})")
    plan = plan_shards(job, shard.count)
    start, stop = plan.range_of(shard.number)
    hosts = _on_hosts(job, shard)
    manifest = ManifestRange(**job.manifest.model_dump(), start=start, stop=stop)
    part = partial(split_settings, shards=shard.count, hosts=hosts)
    update: dict[str, Any] = {
        "manifest": manifest,
        "quota": part(job.quota),
        "endpoints": [
            each.model_copy(update={"quota": part(each.quota)}) for each in job.endpoints
        ],
    }
    gate = _ShardGate(str(output.absolute()), shard.count, hosts=hosts)
    elsewhere, recorded = read_known(plan.known, shard.number)
    return Shard(
        job=of_shard(job, shard_name(shard.number)).model_copy(update=update),
        environment=environment if environment.open_gate else replace(environment, open_gate=gate),
        elsewhere=elsewhere,
        recorded=recorded,
        warning=NOT_LOOKED_FOR if plan.known is None else None,
    )


def refuse_shards(job: JobConfig) -> None:
    """JobError (78) for a job that cannot be cut into shards."""
    if job.endpoint.model.startswith("auto:"):
        raise JobError(
            f"endpoint.model: {job.endpoint.model} may be another model in each shard: name one, "
            "see the command models"
        )
    if isinstance(job.output, Elsewhere):
        raise JobError(
            f"output.path: {job.output.shown} is on an object store or a network file system, where shards are not "
            "available in this version: name a folder on a disk of this machine"
        )


def _on_hosts(job: JobConfig, shard: ShardNumber) -> bool:
    """May the shards run on several hosts, so that no ledger is common to all of them?"""
    if job.quota.shards != "auto":
        return job.quota.shards == "split"
    return shard.scheduled


class _ShardGate:
    """Opens the gate of a shard: with its part of the limits, as the job whose output all share."""

    def __init__(self, output: str, shards: int, *, hosts: bool) -> None:
        self._output, self._shards, self._hosts = output, shards, hosts

    def __call__(
        self,
        settings: QuotaSettings,
        limits: Limits,
        *,
        output: str,
        rng: random.Random,
        **names: Any,
    ) -> AbstractAsyncContextManager[RequestGate]:
        from pipeline.ratelimit.gate import open_gate

        part = split_limits(limits, self._shards, hosts=self._hosts)
        return open_gate(settings, part, output=self._output, rng=rng, **names)
