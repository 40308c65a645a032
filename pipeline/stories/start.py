"""Everything a run needs, opened in order and closed in reverse.

What can be wrong without touching the output or the network is looked at first: key, prompt,
manifest. Then the output (lock, recovery), the selection, and only if something is left to ask,
the service. A run that has nothing to ask opens no connection at all.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pipeline.checkpoint.thumbnails import BYTES as THUMBNAIL_BYTES
from pipeline.checkpoint.thumbnails import Thumbnails
from pipeline.clock import Clock, SystemClock, utc
from pipeline.plan import auto, identity
from pipeline.plan.auto import LARGEST
from pipeline.plan.prompt import compile_prompt
from pipeline.plan.sample import pilot_sizes
from pipeline.stories import metrics
from pipeline.stories.caption import Desk
from pipeline.stories.doubt import Doubts
from pipeline.stories.naming import Naming
from pipeline.stories.packing import Packing, measured_of
from pipeline.stories.page_links import PageLinks
from pipeline.stories.place import state_folder
from pipeline.stories.progress import Progress, Tally
from pipeline.stories.request_shape import RequestShape
from pipeline.stories.select import Selection
from pipeline.stories.sources import Sources

if TYPE_CHECKING:
    from pipeline.api.client import Transport
    from pipeline.api.endpoint import Endpoint
    from pipeline.checkpoint.checkpoint import Checkpoint
    from pipeline.config import JobConfig
    from pipeline.manifest.open import Manifest
    from pipeline.plan.pack import PackLimits, Pool
    from pipeline.records import Image


#: Share of a pilot's packed images that is asked again alone.
PILOT_AUDIT = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What comes from outside: time, chance, environment, terminal, a way to hear signals."""

    clock: Clock
    rng: random.Random
    environ: Mapping[str, str]
    stream: TextIO | None
    #: What requests go through; None: real sockets.
    transport: Transport | None = None


def this_world(environ: Mapping[str, str], stream: TextIO | None = None) -> World:
    """The machine's own clock and chance."""
    return World(clock=SystemClock(), rng=random.Random(), environ=environ, stream=stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What could be looked at without touching output or network."""

    endpoint: Endpoint
    manifest: Manifest
    naming: Naming
    output: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One run with all its doors open."""

    job: JobConfig
    manifest: Manifest
    naming: Naming
    selection: Selection
    tally: Tally
    progress: Progress
    desk: Desk
    sources: Sources
    page_links: PageLinks
    pool: Pool
    #: Send bytes (True), or pass http(s) URLs on (False)?
    inline: bool
    #: Requests under way at once: in flight, at the gate, or on their way to the disk.
    workers: int
    #: Images prepared ahead of the requests.
    ahead: int
    #: What one request may hold.
    limits: PackLimits
    #: Set by a second signal: do not wait for what is in flight.
    hurry: asyncio.Event
    #: What reports will show.
    thumbnails: Thumbnails

    async def keep_thumbnail(self, key: str, image: Image) -> None:
        """Keep a small copy of a picture that is sent as bytes, if it belongs to the sample."""
        if image.data is not None and self.thumbnails.wants(key):
            small = await self.desk.images.thumbnail(image.data, THUMBNAIL_BYTES)
            if small is not None:
                self.thumbnails.put(key, small)


def new_run_id(clock: Clock) -> str:
    """`20261123T122105Z-ab12cd`: sortable, unique on a host and beyond."""
    stamp = utc(clock.now()).removesuffix(" UTC")
    return stamp.replace("-", "").replace(":", "").replace(" ", "T") + "Z-" + secrets.token_hex(3)


def look_at_job(job: JobConfig, environ: Mapping[str, str]) -> Looked:
    """Key, prompt and manifest; JobError, KeyTrouble or ManifestError, nothing written."""
    from pipeline.api.endpoint import endpoint_of

    endpoint = endpoint_of(job.endpoint, environ)
    manifest, naming = look_at_manifest(job)
    return Looked(endpoint=endpoint, manifest=manifest, naming=naming, output=Path(job.output.path))


def look_at_manifest(job: JobConfig) -> tuple[Manifest, Naming]:
    """The manifest, and what its rows are called under this job."""
    from pipeline.manifest.open import open_manifest

    prompt = compile_prompt(job.prompt)
    columns = list(prompt.columns)
    if job.images.identity.startswith("column:"):
        columns.append(job.images.identity.removeprefix("column:"))
    return open_manifest(job.manifest, columns=columns), naming_of(job)


def naming_of(job: JobConfig) -> Naming:
    """What rows are called under this job and its model."""
    return Naming(
        recipe=identity.recipe(
            model=job.endpoint.model,
            system=job.prompt.system,
            prompt=job.prompt.text,
            params=job.endpoint.params,
            extra_body=job.endpoint.extra_body,
            fields=job.reply.fields,
        ),
        prompt=compile_prompt(job.prompt),
        system=job.prompt.system,
        identity=job.images.identity,
    )


def under(job: JobConfig, looked: Looked, *, chosen: bool) -> Looked:
    """The same look with the model that the job has now. chosen: by this program."""
    endpoint = replace(looked.endpoint, settings=job.endpoint, chosen=chosen)
    return replace(looked, endpoint=endpoint, naming=naming_of(job))


@asynccontextmanager
async def open_run(
    job: JobConfig,
    looked: Looked,
    checkpoint: Checkpoint,
    selection: Selection,
    tally: Tally,
    *,
    run_id: str,
    world: World,
    hurry: asyncio.Event,
    pilot: bool = False,
) -> AsyncIterator[Opened]:
    """Open the service and everything on the way to it. ServiceError 69, KeyTrouble 77."""
    from pipeline.api import preflight
    from pipeline.api.client import open_client
    from pipeline.api.wire import Wire
    from pipeline.images.load import open_images
    from pipeline.plan.cost import caption_tokens
    from pipeline.plan.pack import Pool, limits_for
    from pipeline.quota.gate import open_gate
    from pipeline.quota.rename import rename_account

    clock, concurrency = world.clock, job.quota.concurrency
    told = job.packing.images_per_request
    size = told if isinstance(told, int) and not pilot else LARGEST
    async with AsyncExitStack() as stack:
        endpoint = looked.endpoint
        if endpoint.profile.name == "embedded":
            base = await stack.enter_async_context(embedded_service(world))
            endpoint = replace(endpoint, base_url=base)
        client = await stack.enter_async_context(
            open_client(endpoint, concurrency=concurrency, clock=clock, transport=world.transport)
        )
        # A job that has worked before has the right address: its service will come back.
        patience = job.endpoint.patience if len(checkpoint) else 0.0
        service = await preflight.look(client, endpoint, patience=patience)
        limits = preflight.limits_of(endpoint, service)
        state = state_folder(world.environ)
        await asyncio.to_thread(
            rename_account, state, former=endpoint.former_account, account=endpoint.account
        )
        gate = await stack.enter_async_context(
            open_gate(
                job.quota,
                limits,
                account=None if endpoint.profile.name == "embedded" else endpoint.account,
                model=job.endpoint.model,
                output=str(looked.output.absolute()),
                patience=job.endpoint.patience,
                clock=clock,
                rng=world.rng,
                state=state,
                spent_usd=await asyncio.to_thread(spent_before, looked.output),
            )
        )
        images = await stack.enter_async_context(
            open_images(
                job.images, folder=looked.manifest.folder, clock=clock, concurrency=concurrency
            )
        )
        progress = Progress(
            tally,
            total=selection.counts.asked,
            state=looked.output / "_state",
            clock=clock,
            quota=gate.snapshot,
            stream=world.stream,
            each_minute=lambda: metrics.update(
                job.run.metrics, job.name, tally, gate.snapshot(), now=clock.now()
            ),
        )
        stack.callback(progress.close)
        checkpoint.on_landed = progress.landed
        stack.push_async_callback(checkpoint.idle)
        thumbnails = Thumbnails(looked.output / "_state")
        stack.callback(thumbnails.close)
        for warning in service.warnings:
            progress.event(warning)
        model, capabilities = service.model, preflight.capabilities_of(endpoint, service.model)
        shape = RequestShape(
            looked.output,
            endpoint,
            clock,
            schema=capabilities.json_schema and not job.endpoint.asks_form,
            say=progress.event,
        )
        wire = Wire(endpoint, system=job.prompt.system, capabilities=capabilities)
        pack = limits_for(
            size,
            context=model.context,
            max_output=model.max_output,
            caption_tokens=caption_tokens(job.endpoint.params.get("max_tokens")),
        )
        pack = shape.limited(pack)
        fits = auto.room(pack, measured_of(looked.output, job.endpoint.model))
        sizes = pilot_sizes(selection.counts.asked, fits, world.rng) if pilot else ()
        pool = Pool(pack, sizes=sizes, proven=0, on_limit=shape.learned)
        packing = Packing(
            pool,
            pack,
            automatic=told == "auto" and not pilot,
            audit=max(job.packing.audit, PILOT_AUDIT) if pilot else job.packing.audit,
            held=measured_of(looked.output, job.endpoint.model),
            pictures=pilot,
        )
        sources = Sources(
            images,
            patience=job.endpoint.patience,
            clock=clock,
            stopped=gate.stopped,
            event=progress.event,
        )
        doubts = Doubts(client, images)
        stack.callback(doubts.close)
        desk = Desk(
            client=client,
            gate=gate,
            checkpoint=checkpoint,
            images=images,
            clock=clock,
            rng=world.rng,
            wire=wire,
            endpoint=endpoint,
            model=model,
            run_id=run_id,
            recipe=looked.naming.recipe,
            attempts=job.retry.attempts,
            packing=packing,
            progress=progress,
            sources=sources,
            doubts=doubts,
            shape=shape,
        )
        yield Opened(
            job=job,
            manifest=looked.manifest,
            naming=looked.naming,
            selection=selection,
            tally=tally,
            progress=progress,
            desk=desk,
            sources=sources,
            page_links=PageLinks(
                looked.manifest, asked=selection.counts.asked, event=progress.event
            ),
            pool=pool,
            inline=goes_inline(job, endpoint, packed=size > 1, daily=limits.requests_per_day),
            # An answer is on its way to the disk for milliseconds, and each request holds images.
            workers=concurrency + min(concurrency, max(8, concurrency // size)),
            ahead=min(256, max(2 * concurrency, 2 * size)),
            limits=pack,
            hurry=hurry,
            thumbnails=thumbnails,
        )


@asynccontextmanager
async def embedded_service(world: World) -> AsyncIterator[str]:
    """The embedded describer on a loopback port of this process; gives its base URL."""
    from pipeline.sim.core import Simulator
    from pipeline.sim.knobs import PROFILES
    from pipeline.sim.server import serve

    simulator = Simulator(PROFILES["embedded"], seed=0, clock=world.clock)
    async with serve(simulator, clock=world.clock) as base:
        yield base


def spent_before(output: Path) -> float:
    """What this job has cost so far, by its account book: the cap holds over all its runs."""
    import pyarrow.compute as pc

    from pipeline.checkpoint.parts import read_part

    total = 0.0
    for path in sorted((output / "requests").glob("*.parquet")):
        total += pc.sum(read_part(path, ["cost_usd"])["cost_usd"]).as_py() or 0.0
    return total


def goes_inline(job: JobConfig, endpoint: Endpoint, *, packed: bool, daily: int | None) -> bool:
    """`images.send`: bytes inside the request, or URLs passed on.

    auto: bytes wherever a request is scarce (a daily limit, a pack), since a URL that the service
    cannot fetch costs one; else URLs where the service is known to fetch them.
    """
    if job.images.send != "auto":
        return job.images.send == "inline"
    return packed or daily is not None or not endpoint.profile.takes_urls
