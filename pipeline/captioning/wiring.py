"""Everything a run needs, opened in order and closed in reverse.

What can be wrong without touching the output or the network is looked at first: key, prompt,
manifest. Then the output (lock, recovery), the selection, and only if something is left to ask,
the service. A run that has nothing to ask opens no connection at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.captioning import metrics
from pipeline.captioning.arrivals import Arrivals
from pipeline.captioning.ask import Captioner
from pipeline.captioning.culprits import Culprits
from pipeline.captioning.endpoint_pool import EndpointPool, Lane, RunGate
from pipeline.captioning.fresh_first import FreshFirst
from pipeline.captioning.inputs import Environment, JobInputs, boundary_of
from pipeline.captioning.naming import Naming
from pipeline.captioning.open_captioner import OfAllEndpoints, captioner_of, packing_of, shape_of
from pipeline.captioning.open_lane import common_side, open_endpoints
from pipeline.captioning.page_links import PageLinks
from pipeline.captioning.progress import Progress, RunCounters
from pipeline.captioning.same_pictures import SamePictures
from pipeline.captioning.select import Selection
from pipeline.captioning.sources import Sources
from pipeline.captioning.suspects import Suspects
from pipeline.packsize.auto import LARGEST
from pipeline.store.thumbnails import BYTES as THUMBNAIL_BYTES
from pipeline.store.thumbnails import Thumbnails

if TYPE_CHECKING:
    from pipeline.captioning.open_lane import OpenedEndpoint
    from pipeline.clock import Clock
    from pipeline.config.job import JobConfig
    from pipeline.images.load import Images
    from pipeline.manifest.open import Manifest
    from pipeline.model import Image, Record, RequestRow
    from pipeline.service.endpoint import Endpoint
    from pipeline.store.store import Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Everything one run needs, opened."""

    job: JobConfig
    manifest: Manifest
    naming: Naming
    selection: Selection
    counters: RunCounters
    progress: Progress
    #: Of the only endpoint, or of the first one.
    captioner: Captioner
    #: Ends the run, and knows why it ended.
    gate: RunGate
    endpoint_pool: EndpointPool | None
    sources: Sources
    suspects: Suspects
    #: Keys by the pictures' bytes.
    arrivals: Arrivals
    page_links: PageLinks
    same_pictures: SamePictures
    #: Send bytes (True), or pass http(s) URLs on (False)?
    inline: bool
    #: Requests under way at once: in flight, at the gate, or on their way to the disk.
    workers: int
    #: Images prepared ahead of the requests.
    ahead: int
    #: Set by a second signal: do not wait for what is in flight.
    hurry: asyncio.Event
    #: What reports will show.
    thumbnails: Thumbnails

    async def keep_thumbnail(self, key: str, image: Image) -> None:
        """Keep a small copy of a picture that is sent as bytes, if it belongs to the sample."""
        if image.data is not None and self.thumbnails.wants(key):
            small = await self.captioner.images.thumbnail(image.data, THUMBNAIL_BYTES)
            if small is not None:
                self.thumbnails.put(key, small)


@asynccontextmanager
async def open_run(
    job: JobConfig,
    inputs: JobInputs,
    checkpoint: Checkpoint,
    selection: Selection,
    counters: RunCounters,
    *,
    run_id: str,
    environment: Environment,
    hurry: asyncio.Event,
    pilot: bool = False,
    pending: Mapping[str, Record] | None = None,
) -> AsyncIterator[RunContext]:
    """Open the service and everything on the way to it. ServiceError 69, KeyTrouble 77.

    pending: records of earlier runs that wait for a second answer.
    """
    clock = environment.clock
    configured = job.packing.images_per_request
    size = configured if isinstance(configured, int) and not pilot else LARGEST
    async with AsyncExitStack() as stack:
        said: list[str] = []
        opened = await open_endpoints(
            stack, job, inputs, environment, worked=len(checkpoint) > 0, event=said.append
        )
        concurrency = sum(each.concurrency for each in opened)
        images = await stack.enter_async_context(_images(job, inputs, opened, clock))
        endpoint_pool = EndpointPool() if inputs.pool else None
        gate: RunGate = endpoint_pool or opened[0].gate
        progress = _progress(job, inputs, counters, gate, selection.counts.asked, environment)
        stack.callback(progress.close)
        same_pictures = SamePictures()
        await _follow(stack, inputs, checkpoint, progress, same_pictures)
        thumbnails = Thumbnails(inputs.output / "_state")
        stack.callback(thumbnails.close)
        for warning in (*said, *(w for each in opened for w in each.service.warnings)):
            progress.event(warning)
        shapes = [shape_of(job, inputs.output, each, clock, say=progress.event) for each in opened]
        rng = environment.rng if pilot else None
        suspects = await _suspects(stack, inputs, checkpoint)

        def day_binds(suspected: int) -> bool:
            """Does the day not reach for what is left? A pilot asks its sample, whatever it is."""
            left = gate.snapshot().get("left")
            images = selection.counts.asked - counters.settled
            if not isinstance(left, int) or pilot:
                return False
            return packing.exceeds(images, left, suspected=suspected)

        fresh_first = FreshFirst(suspects, day_binds)
        packing = packing_of(
            job,
            inputs.output,
            opened,
            shapes,
            size=size,
            asked=selection.counts.asked,
            pilot=rng,
            culprits=Culprits(fresh_first),
        )
        sources = Sources(
            images,
            patience=job.endpoint.patience,
            clock=clock,
            stopped=gate.stopped,
            event=progress.event,
            fresh_first=fresh_first,
        )
        of_all = OfAllEndpoints(
            job=job,
            checkpoint=checkpoint,
            images=images,
            clock=clock,
            rng=environment.rng,
            run_id=run_id,
            packing=packing,
            progress=progress,
            sources=sources,
            pending=pending or {},
        )
        captioners = [
            captioner_of(each, of_all, shape) for each, shape in zip(opened, shapes, strict=True)
        ]
        for captioner in captioners:
            stack.push_async_callback(captioner.doubts.close)
        if endpoint_pool is not None:
            endpoint_pool.open([lane_of(captioner) for captioner in captioners])
        yield RunContext(
            job=job,
            gate=gate,
            endpoint_pool=endpoint_pool,
            manifest=inputs.manifest,
            naming=inputs.naming,
            selection=selection,
            counters=counters,
            progress=progress,
            captioner=captioners[0],
            sources=sources,
            suspects=suspects,
            arrivals=Arrivals(inputs.naming, selection),
            page_links=PageLinks(
                inputs.manifest, asked=selection.counts.asked, event=progress.event
            ),
            same_pictures=same_pictures,
            inline=any(
                goes_inline(job, each.endpoint, packed=size > 1, daily=each.limits.requests_per_day)
                for each in opened
            ),
            # An answer is on its way to the disk for milliseconds, and each request holds images.
            workers=concurrency + min(concurrency, max(8, concurrency // size)),
            ahead=min(256, max(2 * concurrency, 2 * size)),
            hurry=hurry,
            thumbnails=thumbnails,
        )


async def _suspects(stack: AsyncExitStack, inputs: JobInputs, checkpoint: Checkpoint) -> Suspects:
    """What earlier runs have left of refused packs."""
    suspects = Suspects(inputs.output / "_state")
    stack.callback(suspects.close)
    await asyncio.to_thread(suspects.open, checkpoint.state)
    return suspects


def _images(
    job: JobConfig, inputs: JobInputs, opened: Sequence[OpenedEndpoint], clock: Clock
) -> AbstractAsyncContextManager[Images]:
    """The loading of pictures, in a size that every endpoint takes."""
    from pipeline.images.load import open_images

    side = common_side(job.images.max_side, [each.endpoint for each in opened])
    return open_images(
        job.images.model_copy(update={"max_side": side}),
        folder=inputs.manifest.folder,
        boundary=boundary_of(job, inputs.manifest),
        clock=clock,
        concurrency=sum(each.concurrency for each in opened),
    )


def _progress(
    job: JobConfig,
    inputs: JobInputs,
    counters: RunCounters,
    gate: RunGate,
    total: int,
    environment: Environment,
) -> Progress:
    clock = environment.clock
    return Progress(
        counters,
        total=total,
        state=inputs.output / "_state",
        clock=clock,
        quota=gate.snapshot,
        stream=environment.stream,
        each_minute=lambda: metrics.update(
            job.run.metrics, job.name, counters, gate.snapshot(), now=clock.now()
        ),
    )


def lane_of(captioner: Captioner) -> Lane:
    """One of several endpoints."""
    from pipeline.ratelimit.gate import Gate

    assert isinstance(captioner.gate, Gate)
    return Lane(name=captioner.endpoint_name, captioner=captioner, gate=captioner.gate)


async def _follow(
    stack: AsyncExitStack,
    inputs: JobInputs,
    checkpoint: Checkpoint,
    progress: Progress,
    same_pictures: SamePictures,
) -> None:
    """Let those who count and compare know of each record that is on disk; keep what is known of
    files when the stack closes, after the checkpoint's last record."""
    versions, contents = inputs.naming.versions, inputs.naming.contents

    def landed(
        before: Sequence[str | None], records: Sequence[Record], row: RequestRow | None
    ) -> None:
        progress.landed(before, records, row)
        same_pictures.landed(records)
        if versions is not None:
            versions.landed(records)

    checkpoint.on_landed = landed
    if versions is not None:
        await asyncio.to_thread(versions.begin, inputs.output)
        stack.callback(versions.end, inputs.output)
    elif contents is not None:
        stack.callback(contents.flush)
    stack.push_async_callback(checkpoint.idle)


def goes_inline(job: JobConfig, endpoint: Endpoint, *, packed: bool, daily: int | None) -> bool:
    """`images.send`: bytes inside the request, or URLs passed on.

    auto: bytes wherever a request is scarce (a daily limit, a pack), since a URL that the service
    cannot fetch costs one; else URLs where the service is known to fetch them. Pictures known by
    their bytes are read anyway.
    """
    if job.images.identity == "content":
        return True
    if job.images.send != "auto":
        return job.images.send == "inline"
    return packed or daily is not None or not endpoint.profile.takes_urls
