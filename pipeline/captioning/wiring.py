"""Everything a run needs, opened in order and closed in reverse.

What can be wrong without touching the output or the network is looked at first: key, prompt,
manifest. Then the output (lock, recovery), the selection, and only if something is left to ask,
the service. A run that has nothing to ask opens no connection at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.captioning import metrics
from pipeline.captioning.arrivals import Arrivals
from pipeline.captioning.ask import Captioner
from pipeline.captioning.attribution import Attribution
from pipeline.captioning.doubted_answers import Doubts
from pipeline.captioning.endpoint_pool import EndpointPool, Lane, RunGate
from pipeline.captioning.fields import Fields
from pipeline.captioning.inputs import Environment, JobInputs, boundary_of
from pipeline.captioning.interpret import checks_of
from pipeline.captioning.naming import Naming
from pipeline.captioning.open_lane import (
    OpenedEndpoint,
    common_limits,
    common_side,
    open_endpoints,
)
from pipeline.captioning.pack_sizes import Packing, measured_of
from pipeline.captioning.page_links import PageLinks
from pipeline.captioning.progress import Progress, RunCounters
from pipeline.captioning.request_shape import RequestShape
from pipeline.captioning.same_pictures import SamePictures
from pipeline.captioning.second import SecondQuestions, second_forms
from pipeline.captioning.select import Selection
from pipeline.captioning.sources import Sources
from pipeline.packsize import auto
from pipeline.packsize.auto import LARGEST
from pipeline.packsize.sample import pilot_sizes
from pipeline.store.thumbnails import BYTES as THUMBNAIL_BYTES
from pipeline.store.thumbnails import Thumbnails

if TYPE_CHECKING:
    from pipeline.captioning.pack import Pool
    from pipeline.config.job import JobConfig
    from pipeline.manifest.open import Manifest
    from pipeline.model import Form, Image, Record, RequestRow
    from pipeline.packsize.limits import PackLimits
    from pipeline.service.endpoint import Endpoint
    from pipeline.store.store import Checkpoint


#: Share of a pilot's packed images that is asked again alone.
PILOT_AUDIT = 0.15


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
    #: Keys by the pictures' bytes.
    arrivals: Arrivals
    page_links: PageLinks
    same_pictures: SamePictures
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
    from pipeline.captioning.pack import Pool
    from pipeline.images.load import open_images
    from pipeline.packsize.cost import caption_tokens
    from pipeline.packsize.limits import limits_for
    from pipeline.service import preflight
    from pipeline.service.wire import Wire

    clock = environment.clock
    configured = job.packing.images_per_request
    size = configured if isinstance(configured, int) and not pilot else LARGEST
    async with AsyncExitStack() as stack:
        said: list[str] = []
        opened = await open_endpoints(
            stack, job, inputs, environment, worked=len(checkpoint) > 0, event=said.append
        )
        first, endpoints = opened[0], [each.endpoint for each in opened]
        endpoint, gate, service = first.endpoint, first.gate, first.service
        concurrency = sum(each.concurrency for each in opened)
        side = common_side(job.images.max_side, endpoints)
        images = await stack.enter_async_context(
            open_images(
                job.images.model_copy(update={"max_side": side}),
                folder=inputs.manifest.folder,
                boundary=boundary_of(job, inputs.manifest),
                clock=clock,
                concurrency=concurrency,
            )
        )
        endpoint_pool = EndpointPool() if inputs.pool else None
        run_gate: RunGate = endpoint_pool or gate
        progress = Progress(
            counters,
            total=selection.counts.asked,
            state=inputs.output / "_state",
            clock=clock,
            quota=run_gate.snapshot,
            stream=environment.stream,
            each_minute=lambda: metrics.update(
                job.run.metrics, job.name, counters, run_gate.snapshot(), now=clock.now()
            ),
        )
        stack.callback(progress.close)
        same_pictures = SamePictures()

        def landed(
            before: Sequence[str | None], records: Sequence[Record], row: RequestRow | None
        ) -> None:
            progress.landed(before, records, row)
            same_pictures.landed(records)
            if inputs.naming.versions is not None:
                inputs.naming.versions.landed(records)

        checkpoint.on_landed = landed
        if (versions := inputs.naming.versions) is not None:
            await asyncio.to_thread(versions.begin, inputs.output)
            stack.callback(versions.end, inputs.output)
        elif inputs.naming.contents is not None:
            stack.callback(inputs.naming.contents.flush)
        stack.push_async_callback(checkpoint.idle)
        thumbnails = Thumbnails(inputs.output / "_state")
        stack.callback(thumbnails.close)
        for warning in (*said, *(w for each in opened for w in each.service.warnings)):
            progress.event(warning)
        model, capabilities = service.model, preflight.capabilities_of(endpoint, service.model)
        models = [each.service.model for each in opened]
        shape = RequestShape(
            inputs.output,
            endpoint,
            clock,
            schema=not job.endpoint.asks_form
            and all(
                preflight.capabilities_of(each.endpoint, each.service.model).json_schema
                for each in opened
            ),
            say=progress.event,
        )
        fields = Fields(job.reply.fields)
        wire = Wire(
            endpoint,
            system=job.prompt.system,
            capabilities=capabilities,
            fields_tokens=fields.tokens,
        )
        pack = limits_for(
            size,
            context=min((m.context for m in models if m.context), default=None),
            max_output=min((m.max_output for m in models if m.max_output), default=None),
            caption_tokens=caption_tokens(job.endpoint.params.get("max_tokens")) + fields.tokens,
        )
        pack = common_limits(shape.limited(pack), endpoints)
        fits = auto.room(pack, measured_of(inputs.output, job.endpoint.model))
        sizes = pilot_sizes(selection.counts.asked, fits, environment.rng) if pilot else ()
        form: Form = "fields" if fields else "plain"
        pool = Pool(pack, form=form, sizes=sizes, proven=0, on_limit=shape.learned)
        packing = Packing(
            pool,
            pack,
            automatic=configured == "auto" and not pilot,
            audit=max(job.packing.audit, PILOT_AUDIT) if pilot else job.packing.audit,
            measured=measured_of(inputs.output, job.endpoint.model),
            pictures=pilot,
        )
        sources = Sources(
            images,
            patience=job.endpoint.patience,
            clock=clock,
            stopped=run_gate.stopped,
            event=progress.event,
        )
        doubts = Doubts(first.client, images, checkpoint)
        stack.push_async_callback(doubts.close)
        captioner = Captioner(
            client=first.client,
            gate=gate,
            checkpoint=checkpoint,
            images=images,
            clock=clock,
            rng=environment.rng,
            wire=wire,
            endpoint=endpoint,
            model=model,
            run_id=run_id,
            attempts=job.retry.attempts,
            packing=packing,
            progress=progress,
            sources=sources,
            doubts=doubts,
            shape=shape,
            attribution=Attribution(),
            fields=fields,
            second=SecondQuestions(
                forms=second_forms(job, wire.asking, first.models, first.gates),
                actions=checks_of(job).actions,
                pending=pending or {},
            ),
        )
        if endpoint_pool is not None:
            lanes = [lane_of(each, captioner, job) for each in opened]
            for lane in lanes:
                stack.push_async_callback(lane.captioner.doubts.close)
            endpoint_pool.open(lanes)
        yield RunContext(
            job=job,
            gate=run_gate,
            endpoint_pool=endpoint_pool,
            manifest=inputs.manifest,
            naming=inputs.naming,
            selection=selection,
            counters=counters,
            progress=progress,
            captioner=captioner,
            sources=sources,
            arrivals=Arrivals(inputs.naming, selection),
            page_links=PageLinks(
                inputs.manifest, asked=selection.counts.asked, event=progress.event
            ),
            same_pictures=same_pictures,
            pool=pool,
            inline=any(
                goes_inline(job, each.endpoint, packed=size > 1, daily=each.limits.requests_per_day)
                for each in opened
            ),
            # An answer is on its way to the disk for milliseconds, and each request holds images.
            workers=concurrency + min(concurrency, max(8, concurrency // size)),
            ahead=min(256, max(2 * concurrency, 2 * size)),
            limits=pack,
            hurry=hurry,
            thumbnails=thumbnails,
        )


def lane_of(opened: OpenedEndpoint, captioner: Captioner, job: JobConfig) -> Lane:
    """One of several endpoints with a captioner of its own: what is known of a service's health and of
    whose fault a refusal is holds for that service alone."""
    from pipeline.ratelimit.gate import Gate
    from pipeline.service import preflight
    from pipeline.service.wire import Wire

    assert isinstance(opened.gate, Gate)
    model = opened.service.model
    wire = Wire(
        opened.endpoint,
        system=job.prompt.system,
        capabilities=preflight.capabilities_of(opened.endpoint, model),
        fields_tokens=captioner.fields.tokens,
    )
    own = job.model_copy(update={"endpoint": opened.endpoint.settings})
    second = captioner.second
    return Lane(
        name=opened.name,
        gate=opened.gate,
        captioner=replace(
            captioner,
            client=opened.client,
            gate=opened.gate,
            wire=wire,
            endpoint=opened.endpoint,
            model=model,
            doubts=Doubts(opened.client, captioner.images, captioner.checkpoint),
            attribution=Attribution(),
            second=replace(
                second, forms=second_forms(own, wire.asking, opened.models, opened.gates)
            ),
            job_model=job.endpoint.model,
            endpoint_name=opened.name,
        ),
    )


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
