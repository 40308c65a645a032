"""The second questions of a plan: how many, to whom, and what those to another model cost.

Their share is that of the images which were asked twice so far. Typed fields are asked again in packs
of the job's model; another caption is asked for alone, maybe of another model with its own quota.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.captioning.checked import ASKS
from pipeline.captioning.second import other_models
from pipeline.commands.forecast import Forecast, forecast, pace_of
from pipeline.commands.rates import asked_again
from pipeline.commands.service_status import ServiceStatus
from pipeline.model import CHECK
from pipeline.plural import counted
from pipeline.values import dataclass

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondPlan:
    """Images that will be asked twice."""

    #: None: not known yet.
    share: float | None
    images: int | None
    #: Of them, those asked for another caption, each alone, by the model that is asked.
    alone: Mapping[str, int] = field(default_factory=dict)

    @property
    def packed(self) -> int:
        """Images asked for typed fields, in packs of the job's model."""
        return (self.images or 0) - sum(self.alone.values())

    def apart(self, services: Mapping[str, ServiceStatus]) -> dict[str, dict[str, ServiceStatus]]:
        """Models that count in a quota of their own at every service, and how they stand there."""
        return {
            model: {name: status.others[model] for name, status in services.items()}
            for model in self.alone
            if all(model in status.others for status in services.values())
        }

    def forecasts(
        self, apart: Mapping[str, Mapping[str, ServiceStatus]], *, now: float, concurrency: int
    ) -> dict[str, Forecast]:
        """How long these take, while the job's own model is asked."""
        pace = partial(pace_of, 1, now=now, concurrency=concurrency, rates=None)
        return {
            model: forecast(
                self.alone[model], {name: pace(s) for name, s in services.items()}, now=now
            )
            for model, services in apart.items()
        }

    def shown(self, beside: Mapping[str, Forecast]) -> dict[str, Any]:
        """The key `second_questions` of a plan. beside: of `forecasts`."""
        models = {
            name: {
                "requests": self.alone[name],
                "requests_per_day": each.daily,
                "nights": each.nights,
            }
            for name, each in beside.items()
        }
        return {"share": self.share, "images": self.images, "models": models}


def models_at(services: Mapping[str, ServiceStatus], model: str) -> dict[str, ServiceStatus]:
    """The same services with a model that second questions go to, for its prices."""
    status = {}
    for name, each in services.items():
        service, other = each.service, each.service.others.get(model)
        status[name] = replace(each, service=replace(service, model=other)) if other else each
    return status


def second_plan(job: JobConfig, asked: int) -> SecondPlan:
    """Of so many images to ask, by the share of those that were asked twice so far."""
    actions = job.checks.actions
    if not job.reply.fields and ASKS.isdisjoint(actions.values()):
        return SecondPlan(share=0.0, images=0)
    others = other_models(job)
    retried = job.checks.retry.model or job.endpoint.model

    def whom(record: Mapping[str, Any]) -> str | None:
        """The model asked for another caption; None: typed fields were asked for."""
        if record["model"] in others:
            return str(record["model"])
        names = [f.removeprefix(CHECK) for f in record["flags"] if f.startswith(CHECK)]
        if not names and record["status"] == "failed":
            names = ["refusal"]
        asks = {actions.get(name, "") for name in names} & ASKS
        if "fallback" in asks:
            return job.endpoint.fallback_models[0]
        return retried if asks or not job.reply.fields else None

    shares = asked_again(Path(job.output.path), whom)
    if shares is None:
        return SecondPlan(share=None, images=None)
    counts = {name: math.ceil(asked * share) for name, share in shares.items()}
    return SecondPlan(
        share=round(sum(shares.values()), 4),
        images=sum(counts.values()),
        alone={name: count for name, count in counts.items() if name is not None},
    )


def second_lines(second: Mapping[str, Any]) -> list[str]:
    """The same for people. second: of `shown`."""
    if second["images"] is None:
        return ["second questions (typed fields, retry): not measured yet; a pilot tells"]
    if not second["images"]:
        return []
    return [
        (
            f"about {counted(second['images'], 'image')} asked a second time ({second['share'] * 100:.1f} %, "
            "as before), counted in"
        ),
        *(
            f"  of them {of['requests']:,} by {name}, {of['requests_per_day']:,} a day in a quota of its own"
            for name, of in second["models"].items()
        ),
    ]
