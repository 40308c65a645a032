"""What a command starts from: the environment, and a job inspected without writing anything.

Key, prompt and manifest are looked at before the output or the network is touched.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pipeline.captioning import identity
from pipeline.captioning.contents import NAME as CONTENTS
from pipeline.captioning.contents import Contents
from pipeline.captioning.fields import Fields
from pipeline.captioning.file_versions import FileVersions
from pipeline.captioning.naming import NamedPrompt, Naming
from pipeline.captioning.prompt import Prompt, compile_prompt
from pipeline.clock import Clock, SystemClock, utc
from pipeline.local_files import Boundary
from pipeline.manifest.settings import ManifestRange
from pipeline.model import SETTINGS

if TYPE_CHECKING:
    from pipeline.config.captioning import PromptSettings
    from pipeline.config.endpoints import PoolEndpoint
    from pipeline.config.job import JobConfig
    from pipeline.manifest.open import Manifest
    from pipeline.ratelimit.protocol import GateOpener
    from pipeline.service.client import Transport
    from pipeline.service.endpoint import Endpoint, Secret
    from pipeline.store.keys import KeyMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What comes from outside: time, chance, environment, terminal, a way to hear signals."""

    clock: Clock
    rng: random.Random
    environ: Mapping[str, str]
    stream: TextIO | None
    #: What requests go through; None: real sockets.
    transport: Transport | None = None
    #: Opens the rate limiter; None: `ratelimit.gate.open_gate`.
    open_gate: GateOpener | None = None


def this_environment(environ: Mapping[str, str], stream: TextIO | None = None) -> Environment:
    """The machine's own clock and chance."""
    return Environment(clock=SystemClock(), rng=random.Random(), environ=environ, stream=stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInputs:
    """What could be looked at without touching output or network."""

    endpoint: Endpoint
    #: Every endpoint of a job with several, by name; none for a job with one.
    pool: Mapping[str, Endpoint] = field(default_factory=dict)
    manifest: Manifest
    naming: Naming
    output: Path
    #: Keys of rows that belong to another shard, where they stand first.
    elsewhere: KeyMap | None = None

    @property
    def keys(self) -> tuple[Secret, ...]:
        """Of all endpoints."""
        endpoints = [self.endpoint, *self.pool.values()]
        return tuple(dict.fromkeys(each.key for each in endpoints if each.key is not None))


def new_run_id(clock: Clock) -> str:
    """`20261123T122105Z-ab12cd`: sortable, unique on a host and beyond."""
    stamp = utc(clock.now()).removesuffix(" UTC")
    return stamp.replace("-", "").replace(":", "").replace(" ", "T") + "Z-" + secrets.token_hex(3)


def inspect_job(job: JobConfig, environ: Mapping[str, str]) -> JobInputs:
    """Key, prompt and manifest; JobError, KeyTrouble or ManifestError, nothing written."""
    from pipeline.service.endpoint import endpoint_of

    pool = {
        name: endpoint_of(settings, environ) for name, settings in names_of(job.endpoints).items()
    }
    endpoint = next(iter(pool.values()), None) or endpoint_of(job.endpoint, environ)
    manifest, naming = inspect_manifest(job)
    return JobInputs(
        endpoint=endpoint, pool=pool, manifest=manifest, naming=naming, output=Path(job.output.path)
    )


def names_of(endpoints: Sequence[PoolEndpoint]) -> dict[str, PoolEndpoint]:
    """Endpoints by name: that of the profile, with a number from the second one on."""
    named: dict[str, PoolEndpoint] = {}
    for settings in endpoints:
        number = sum(settings.profile == each.profile for each in named.values()) + 1
        named[settings.profile if number == 1 else f"{settings.profile}-{number}"] = settings
    return named


def one_by_one(job: JobConfig) -> dict[str, JobConfig]:
    """The job as each of its endpoints has it, by name; itself under "" where there is one."""
    if not job.endpoints:
        return {"": job}
    return {
        name: job.model_copy(
            update={"endpoint": settings, "quota": settings.quota, "endpoints": []}
        )
        for name, settings in names_of(job.endpoints).items()
    }


def inspect_manifest(job: JobConfig) -> tuple[Manifest, Naming]:
    """The manifest, and what its rows are called under this job."""
    from pipeline.manifest.open import open_manifest

    columns = [name for prompt in compiled(job.prompt).values() for name in prompt.columns]
    if job.images.identity.startswith("column:"):
        columns.append(job.images.identity.removeprefix("column:"))
    columns = list(dict.fromkeys(columns))
    manifest = open_manifest(job.manifest, columns=columns, root=job.images.folder)
    return manifest, naming_of(job, manifest)


def compiled(settings: PromptSettings) -> dict[str | None, Prompt]:
    """The prompts by their names. JobError as `compile_prompt` has it."""
    return {
        name: compile_prompt(text, "prompt.text" if name is None else f"prompt.prompts.{name}.text")
        for name, text in settings.texts.items()
    }


def settings_flag(job: JobConfig, manifest: Manifest) -> str:
    """The flag of a failure that costs no request: it is tried again once these settings change."""
    return SETTINGS + job.images.digest(manifest.folder)


def prompt_recipes(job: JobConfig) -> dict[str | None, str]:
    """The recipes of the prompts by their names."""
    recipe_with = partial(
        identity.recipe,
        model=job.endpoint.model,
        system=job.prompt.system,
        params=job.endpoint.params,
        extra_body=job.endpoint.extra_body,
        fields=Fields(job.reply.fields).recipe,
    )
    return {name: recipe_with(prompt=text) for name, text in job.prompt.texts.items()}


def naming_of(job: JobConfig, manifest: Manifest) -> Naming:
    """What rows are called under this job and its model."""
    contents = versions = None
    output = Path(job.output.path)
    if isinstance(job.manifest, ManifestRange):
        output = output.parents[1]  # shards share the main output's, where readers look
    known = Contents(output / "_state" / CONTENTS, job.images.folder or manifest.folder)
    if job.images.identity == "content":
        contents = known
    elif job.images.identity == "auto":
        versions = FileVersions(known)
    recipes = prompt_recipes(job)
    templates, named = compiled(job.prompt), job.prompt.prompts
    return Naming(
        prompts=tuple(
            NamedPrompt(
                name=name,
                recipe=recipes[name],
                template=templates[name],
                weight=1.0 if name is None else named[name].weight,
            )
            for name in job.prompt.texts
        ),
        mode=job.prompt.mode,
        system=job.prompt.system,
        identity=job.images.identity,
        contents=contents,
        versions=versions,
    )


def boundary_of(job: JobConfig, manifest: Manifest) -> Boundary:
    """Which local files the manifest may name."""
    return Boundary(root=job.images.folder, remote=manifest.remote, own=manifest.shards)


def under(job: JobConfig, inputs: JobInputs, *, chosen: bool) -> JobInputs:
    """The same look with the model that the job has now. chosen: by this program."""
    endpoint = replace(inputs.endpoint, settings=job.endpoint, chosen=chosen)
    return replace(inputs, endpoint=endpoint, naming=naming_of(job, inputs.manifest))
