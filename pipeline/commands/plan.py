"""`plan`: what a job will cost and how many nights it takes, before anything is asked."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.captioning.checked import ASKS
from pipeline.captioning.fields import Fields
from pipeline.captioning.inputs import Environment, inspect_job, settings_flag, under
from pipeline.captioning.interpret import checks_of
from pipeline.captioning.options import RunOptions
from pipeline.captioning.output_location import ours
from pipeline.captioning.pack_sizes import measured_of
from pipeline.captioning.select import Counts, Selector, asks_again, count
from pipeline.clock import iso
from pipeline.commands import model_selection as choice
from pipeline.commands.rates import Rates, asked_again, rates_of
from pipeline.commands.recipes import check_recipe
from pipeline.commands.service_status import ServiceStatus, service_status
from pipeline.distributed.plan import MOST_ROWS, NOT_LOOKED_FOR
from pipeline.errors import JobError
from pipeline.packsize import auto, cost
from pipeline.packsize.limits import limits_for, within
from pipeline.service.profiles import PROFILES
from pipeline.store.parts import part_files
from pipeline.store.publish_plan import CAPTIONS
from pipeline.store.shards import unjoined

if TYPE_CHECKING:
    from pipeline.captioning.inputs import JobInputs
    from pipeline.config.job import JobConfig

DAY, MINUTES_A_DAY = 86_400.0, 1_440
#: Seconds an answer takes where nothing was measured yet: a free vision model's usual latency.
LATENCY = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Nights and money. Pure numbers; `facts` shows them."""

    requests: int
    #: Requests a full day allows, and what binds: `requests_per_day`, `requests_per_minute`, …
    daily: int
    binding: str
    nights: int
    ends_at: float


def forecast(
    asked: int,
    size: int,
    status: ServiceStatus,
    *,
    now: float,
    concurrency: int,
    rates: Rates | None,
) -> Forecast:
    """How long `asked` images take in packs of `size`, at rates that were measured. Pure."""
    quota_limits, day = status.quota_limits, status.today
    each = size * (rates.answered if rates else 1.0)
    requests = math.ceil(asked / (rates.each or each if rates else each))
    latency = max(0.001, rates.latency) if rates else LATENCY
    ways = {"latency": int(concurrency / latency * DAY)}
    if quota_limits.per_minute is not None:
        ways["requests_per_minute"] = int(quota_limits.per_minute * MINUTES_A_DAY)
    if quota_limits.tokens_per_minute is not None:
        tokens = size * (cost.TOKENS_PER_TILE * 2 + cost.CAPTION_TOKENS)
        ways["tokens_per_minute"] = max(1, quota_limits.tokens_per_minute * MINUTES_A_DAY // tokens)
    speed = max(1, min(ways.values()))  # while it is asking, as requests a day
    if quota_limits.daily is not None:
        ways["requests_per_day"] = quota_limits.daily
    binding = min(ways, key=lambda name: ways[name])
    daily = max(1, ways[binding])
    rest = daily if day is None or day.left is None else min(daily, day.left)
    nights = (
        0 if requests == 0 else 1 if requests <= rest else 1 + math.ceil((requests - rest) / daily)
    )
    if binding != "requests_per_day" or nights <= 1:
        ends = now + requests / speed * DAY
    else:
        resets = day.resets_at if day is not None else now + DAY
        last = requests - rest - (nights - 2) * daily
        ends = resets + (nights - 2 + last / speed) * DAY
    return Forecast(requests=requests, daily=daily, binding=binding, nights=nights, ends_at=ends)


def plan_command(
    job: JobConfig, environ: Mapping[str, str], environment: Environment, *, as_json: bool
) -> int:
    """Print the plan; 0. No request that counts is sent."""
    figures = plan_of(job, environ, environment)
    print(json.dumps(figures) if as_json else "\n".join(lines(figures)))  # noqa: T201 - the result
    return 0


def plan_of(job: JobConfig, environ: Mapping[str, str], environment: Environment) -> dict[str, Any]:
    """The object of `plan --json`. Starts event loops of its own."""
    ours(job)
    inputs = inspect_job(job, environ)
    if choice.is_auto(job):
        job = asyncio.run(choice.settled(job, environment))
        inputs = under(job, inputs, chosen=True)
    counts = counted(job, inputs)
    service = asyncio.run(service_status(job, inputs.endpoint, environment, only_plan=True))
    figures = facts(job, counts, service, now=environment.clock.now())
    figures["warnings"] = [*service.service.warnings, *_stops(job, inputs, counts)]
    if counts.rows > MOST_ROWS:
        figures["warnings"].append(f"with --shard: {NOT_LOOKED_FOR}")
    return figures


def _stops(job: JobConfig, inputs: JobInputs, counts: Counts) -> list[str]:
    """That a run would stop, as every image is new to an output with captions."""
    if not counts.asked or not part_files(inputs.output, CAPTIONS):
        return []
    try:
        check_recipe(job, inputs, counts)
    except JobError as error:
        return [f"a run would stop: {error}"]
    return []


def counted(job: JobConfig, inputs: JobInputs) -> Counts:
    """One pass over the manifest against the published parts; takes no lock, writes nothing."""
    from pipeline.store.record_states import states, states_with_shards
    from pipeline.store.redo import failed_under_others

    flag = settings_flag(job, inputs.manifest)
    again = asks_again(RunOptions(), failed_under_others(inputs.output, flag))
    known = (states_with_shards if unjoined(inputs.output) else states)(inputs.output)
    selector = Selector(inputs.naming, known.get, again)
    counts = count(inputs.manifest.batches(), selector, limit=None)
    assert counts is not None
    return counts


def facts(job: JobConfig, counts: Counts, service: ServiceStatus, *, now: float) -> dict[str, Any]:
    """The plan with stable keys."""
    model, quota_limits, day = service.service.model, service.quota_limits, service.today
    asked_for = job.packing.images_per_request
    measured = measured_of(Path(job.output.path), job.endpoint.model)
    top = limits_for(
        asked_for if isinstance(asked_for, int) else auto.LARGEST,
        context=model.context,
        max_output=model.max_output,
        caption_tokens=cost.caption_tokens(job.endpoint.params.get("max_tokens"))
        + Fields(job.reply.fields).tokens,
    )
    taken = PROFILES[job.endpoint.profile].images
    top = within(top, count=taken.count, raw_bytes=taken.raw_bytes)
    fits = auto.room(top, measured)
    size = min(asked_for, fits) if isinstance(asked_for, int) else auto.choose(top, measured)
    rates = rates_of(Path(job.output.path), job.endpoint.model, size)
    second = _second_questions(job, counts.asked)
    asked = counts.asked + (second["images"] or 0)
    seen = forecast(asked, size, service, now=now, concurrency=job.quota.concurrency, rates=rates)
    prompts = [cost.text_tokens(text) for text in job.prompt.texts.values()]
    tokens_text = seen.requests * sum(prompts) // len(prompts)
    tokens_in = asked * 2 * cost.TOKENS_PER_TILE + tokens_text
    tokens_out = asked * cost.CAPTION_TOKENS // 2
    if rates is not None and rates.prompt_tokens and rates.completion_tokens:
        tokens_in = int(asked * rates.prompt_tokens)
        tokens_out = int(asked * rates.completion_tokens)
    prices = model.prices or {}
    money = (
        tokens_in * prices.get("prompt", 0)
        + tokens_out * prices.get("completion", 0)
        + asked * prices.get("image", 0)
        + seen.requests * prices.get("request", 0)
    )
    return {
        "job": job.name,
        "model": job.endpoint.model,
        "rows": counts.rows,
        "images": counts.images,
        "prompts": {"count": len(prompts), "mode": job.prompt.mode},
        "captioned": counts.captioned,
        "failed": sum(counts.failed.values()),
        "to_ask": counts.asked,
        "second_questions": second,
        "images_per_request": size,
        "measured": None
        if rates is None
        else {
            "requests": rates.requests,
            "latency_seconds": round(rates.latency, 3),
            "answered": round(rates.answered, 4),
            "answered_per_request": None if rates.each is None else round(rates.each, 3),
        },
        "requests": seen.requests,
        "limits": {
            "requests_per_minute": quota_limits.per_minute,
            "requests_per_day": quota_limits.daily,
            "tokens_per_minute": quota_limits.tokens_per_minute,
            "sources": dict(quota_limits.sources),
        },
        "today": None
        if day is None
        else {"used": day.used, "left": day.left, "resets_at": iso(day.resets_at)},
        "binding_limit": seen.binding,
        "requests_per_day": seen.daily,
        "captions_per_day": {
            f"{expected.refused:g}": expected.captions_per_day
            for expected in auto.forecasts(
                size if isinstance(asked_for, int) else None,
                requests_per_day=seen.daily,
                limits=top,
                measured=measured,
            )
        },
        "nights": seen.nights,
        "ends_at": iso(seen.ends_at),
        "tokens": {"prompt": tokens_in, "completion": tokens_out},
        "cost_usd": round(money, 6) if model.prices is not None and money < math.inf else None,
    }


def _prompts(prompts: Mapping[str, Any]) -> str:
    """What several prompts make of the counts."""
    several = {
        "each": ", each image counted once for each of its {} prompts",
        "sample": ", each asked with one of {} prompts",
    }
    return several[prompts["mode"]].format(prompts["count"]) if prompts["count"] > 1 else ""


def _second_questions(job: JobConfig, asked: int) -> dict[str, Any]:
    """Images that will be asked twice, by the share of those that were; null: not known yet."""
    asks = bool(job.reply.fields) or not ASKS.isdisjoint(checks_of(job).actions.values())
    share = asked_again(Path(job.output.path)) if asks else 0.0
    if share is None:
        return {"share": None, "images": None}
    return {"share": round(share, 4), "images": math.ceil(asked * share)}


def lines(figures: dict[str, Any]) -> list[str]:
    """The plan for people."""
    limits, day = figures["limits"], figures["today"]
    names = ("requests_per_minute", "requests_per_day", "tokens_per_minute")
    text = [
        f"{name.replace('_', ' ')}: {limits[name]:g}"
        + (f" ({limits['sources'][name]})" if name in limits["sources"] else "")
        for name in names
        if limits[name] is not None
    ]
    money = (
        "not told by this service" if figures["cost_usd"] is None else f"${figures['cost_usd']:.4g}"
    )
    said = [
        (
            f"{figures['job']}: {figures['images']:,} images in {figures['rows']:,} rows"
            f"{_prompts(figures['prompts'])}; {figures['captioned']:,} captioned, {figures['failed']:,} failed, {figures['to_ask']:,} to ask"
        ),
        (
            f"{figures['requests']:,} requests of {figures['images_per_request']} images; about "
            f"{figures['tokens']['prompt'] + figures['tokens']['completion']:,} tokens; cost {money}"
        ),
        "limits: " + ("; ".join(text) or "none known"),
    ]
    second = figures["second_questions"]
    if second["images"] is None:
        said.append("second questions (typed fields, retry): not measured yet; a pilot tells")
    elif second["images"]:
        said.append(
            f"about {second['images']:,} images asked a second time ({second['share'] * 100:.1f} %, "
            "as before), counted in"
        )
    if day is not None and day["left"] is not None:
        said.append(f"today: {day['used']} used, {day['left']} left, new at {day['resets_at']}")
    rates = ", ".join(
        f"{count:,} at {float(share) * 100:g} % refused"
        for share, count in figures["captions_per_day"].items()
    )
    said.append(f"captions a day: {rates} (bound by {figures['binding_limit'].replace('_', ' ')})")
    if rates := figures["measured"]:
        said.append(
            f"measured over {rates['requests']:,} requests: {rates['latency_seconds']:g} s an answer, "
            f"{rates['answered'] * 100:.1f} % of the images asked were answered"
        )
    else:
        said.append(
            f"nothing was measured yet: reckoned with {LATENCY:g} s an answer, all answered"
        )
    said += figures["warnings"]
    if figures["to_ask"]:
        plural = "s" * (figures["nights"] != 1)
        said.append(f"{figures['nights']:,} night{plural}, until about {figures['ends_at']}")
    else:
        said.append("nothing left to ask")
    return said


__all__ = ["Forecast", "facts", "forecast", "lines", "plan_command", "plan_of"]
