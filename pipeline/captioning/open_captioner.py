"""The captioner of each endpoint, and what those of one run have in common: the size of requests."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.captioning.ask import Captioner
from pipeline.captioning.attribution import Attribution
from pipeline.captioning.doubted_answers import Doubts
from pipeline.captioning.fields import Fields
from pipeline.captioning.open_lane import OpenedEndpoint, common_limits
from pipeline.captioning.pack_sizes import Packing, measured_of
from pipeline.captioning.request_shape import RequestShape
from pipeline.captioning.second import SecondQuestions, second_forms
from pipeline.packsize import auto
from pipeline.packsize.sample import pilot_sizes

if TYPE_CHECKING:
    from pipeline.captioning.culprits import Culprits
    from pipeline.captioning.progress import Progress
    from pipeline.captioning.sources import Sources
    from pipeline.clock import Clock
    from pipeline.config.job import JobConfig
    from pipeline.images.load import Images
    from pipeline.model import Form, Record
    from pipeline.store.store import Checkpoint

#: Share of a pilot's packed images that is asked again alone.
PILOT_AUDIT = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class OfAllEndpoints:
    """What the captioners of one run share."""

    job: JobConfig
    checkpoint: Checkpoint
    images: Images
    clock: Clock
    rng: random.Random
    run_id: str
    packing: Packing
    progress: Progress
    sources: Sources
    #: Records of earlier runs that wait for a second answer.
    pending: Mapping[str, Record]


def captioner_of(opened: OpenedEndpoint, of_all: OfAllEndpoints, shape: RequestShape) -> Captioner:
    """An endpoint's captioner: what is known of a service's health and of whose fault a refusal is
    holds for that service alone."""
    from pipeline.service import preflight
    from pipeline.service.wire import Wire

    job, endpoint, model = of_all.job, opened.endpoint, opened.service.model
    fields = Fields(job.reply.fields)
    wire = Wire(
        endpoint,
        system=job.prompt.system,
        capabilities=preflight.capabilities_of(endpoint, model),
        fields_tokens=fields.tokens,
    )
    own = job.model_copy(update={"endpoint": endpoint.settings})
    return Captioner(
        client=opened.client,
        gate=opened.gate,
        checkpoint=of_all.checkpoint,
        images=of_all.images,
        clock=of_all.clock,
        rng=of_all.rng,
        wire=wire,
        endpoint=endpoint,
        model=model,
        run_id=of_all.run_id,
        attempts=job.retry.attempts,
        packing=of_all.packing,
        progress=of_all.progress,
        sources=of_all.sources,
        doubts=Doubts(opened.client, of_all.images, of_all.checkpoint),
        shape=shape,
        attribution=Attribution(),
        fields=fields,
        second=SecondQuestions(
            forms=second_forms(own, wire.asking, opened.models, opened.gates),
            actions=job.checks.actions,
            pending=of_all.pending,
        ),
        job_model=job.endpoint.model if opened.name else None,
        endpoint_name=opened.name,
    )


def shape_of(
    job: JobConfig,
    output: Path,
    opened: OpenedEndpoint,
    clock: Clock,
    *,
    say: Callable[[str], None],
) -> RequestShape:
    """The form of requests that this endpoint takes."""
    from pipeline.service import preflight

    able = preflight.capabilities_of(opened.endpoint, opened.service.model)
    schema = not job.endpoint.asks_form and able.json_schema
    return RequestShape(output, opened.endpoint, clock, schema=schema, say=say)


def packing_of(
    job: JobConfig,
    output: Path,
    opened: Sequence[OpenedEndpoint],
    shapes: Sequence[RequestShape],
    *,
    size: int,
    asked: int,
    pilot: random.Random | None,
    culprits: Culprits,
) -> Packing:
    """The packs of a run. size: images wanted in each; asked: images; pilot: chance for its sizes."""
    from pipeline.captioning.pack import Pool
    from pipeline.packsize.cost import caption_tokens
    from pipeline.packsize.limits import limits_for

    fields = Fields(job.reply.fields)
    models = [each.service.model for each in opened]
    limits = limits_for(
        size,
        context=min((model.context for model in models if model.context), default=None),
        max_output=min((model.max_output for model in models if model.max_output), default=None),
        caption_tokens=caption_tokens(job.endpoint.params.get("max_tokens")) + fields.tokens,
        system=job.prompt.system,
    )
    for shape in shapes:
        limits = shape.limited(limits)
    limits = common_limits(limits, [each.endpoint for each in opened])
    measured = measured_of(output, job.endpoint.model)
    sizes = pilot_sizes(asked, auto.room(limits, measured), pilot) if pilot else ()
    form: Form = "fields" if fields else "plain"
    return Packing(
        Pool(
            limits,
            form=form,
            sizes=sizes,
            proven=0,
            on_limit=shapes[0].learned,
            culprits=culprits,
        ),
        limits,
        automatic=job.packing.images_per_request == "auto" and not pilot,
        audit=max(job.packing.audit, PILOT_AUDIT) if pilot else job.packing.audit,
        measured=measured,
        pictures=pilot is not None,
    )


__all__ = ["OfAllEndpoints", "captioner_of", "packing_of", "shape_of"]
