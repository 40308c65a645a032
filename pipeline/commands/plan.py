"""`plan`: what a job will cost and how many nights it takes, before anything is asked."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.captioning.fields import Fields
from pipeline.captioning.inputs import Environment, inspect_job, one_by_one, settings_flag, under
from pipeline.captioning.options import RunOptions
from pipeline.captioning.output_location import ours
from pipeline.captioning.pack_sizes import measured_of
from pipeline.captioning.select import Counts, Selector, asks_again, count
from pipeline.clock import iso
from pipeline.commands import model_selection as choice
from pipeline.commands.forecast import LATENCY, Pace, forecast, pace_of
from pipeline.commands.plan_endpoints import endpoint_lines, endpoints_of, limits_of, today_of
from pipeline.commands.plan_second import models_at, second_lines, second_plan
from pipeline.commands.rates import Rates, rates_of
from pipeline.commands.recipes import check_recipe
from pipeline.commands.service_status import ServiceStatus, every_status
from pipeline.distributed.plan import MOST_ROWS, NOT_LOOKED_FOR
from pipeline.errors import JobError
from pipeline.packsize import auto, cost
from pipeline.packsize.limits import limits_for, within
from pipeline.plural import counted
from pipeline.service.profiles import PROFILES
from pipeline.store.parts import part_files
from pipeline.store.publish_plan import CAPTIONS
from pipeline.store.shards import unjoined
from pipeline.values import dataclass

if TYPE_CHECKING:
    from pipeline.captioning.inputs import JobInputs
    from pipeline.config.job import JobConfig
    from pipeline.packsize.limits import PackLimits


#: Images in one request that `plan` suggests, as the recipes do.
_PACK = 16


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
    counts = counts_of(job, inputs)
    services, troubles = asyncio.run(every_status(job, inputs, environment))
    figures = facts(job, counts, services, now=environment.clock.now())
    figures["warnings"] = [
        *troubles,
        *(warning for each in services.values() for warning in each.service.warnings),
        *_stops(job, inputs, counts),
    ]
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


def counts_of(job: JobConfig, inputs: JobInputs) -> Counts:
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


def _top(job: JobConfig, services: Mapping[str, ServiceStatus]) -> PackLimits:
    """What a request may hold at every one of these services."""
    asked_for, models = job.packing.images_per_request, [s.service.model for s in services.values()]
    top = limits_for(
        asked_for if isinstance(asked_for, int) else auto.LARGEST,
        context=min((m.context for m in models if m.context), default=None),
        max_output=min((m.max_output for m in models if m.max_output), default=None),
        caption_tokens=cost.caption_tokens(job.endpoint.params.get("max_tokens"))
        + Fields(job.reply.fields).tokens,
        system=job.prompt.system,
    )
    each = one_by_one(job)
    for taken in (PROFILES[each[name].endpoint.profile].images for name in services):
        top = within(top, count=taken.count, raw_bytes=taken.raw_bytes)
    return top


def _money(bills: Sequence[_Bill], *, usual: bool = False) -> float | None:
    """Dollars, each endpoint's share at its own prices; None where one does not tell them.

    usual: not at the tier of half the price.
    """
    money = 0.0
    for bill in bills:
        for name, status in bill.services.items():
            model = status.service.model
            prices = (model.usual_prices if usual else None) or model.prices
            if prices is None:
                return None
            whole = sum(n * prices.get(what, 0) for what, n in bill.counts.items())
            money += bill.shares[name] * whole
    return round(money, 6) if money < math.inf else None


def facts(
    job: JobConfig, counts: Counts, services: Mapping[str, ServiceStatus], *, now: float
) -> dict[str, Any]:
    """The plan with stable keys. services: by the endpoint's name, as of `one_by_one`."""
    asked_for = job.packing.images_per_request
    measured = measured_of(Path(job.output.path), job.endpoint.model)
    top = _top(job, services)
    fits = auto.room(top, measured)
    size = min(asked_for, fits) if isinstance(asked_for, int) else auto.choose(top, measured)
    rates = rates_of(Path(job.output.path), job.endpoint.model, size)
    second = second_plan(job, counts.asked)
    first = counts.asked + second.packed
    packs = math.ceil(rates.requests_for(first, size) if rates else first / size)
    apart = second.apart(services)
    requests = packs + sum(n for name, n in second.alone.items() if name not in apart)
    paces = _paces(job, services, size, rates, now)
    seen = forecast(requests, paces, now=now)
    beside = second.forecasts(apart, now=now, concurrency=job.quota.concurrency)
    bills = [_bill(job, services, seen.shares, (first, packs), rates)]
    for name, times in second.alone.items():
        shares = beside.get(name, seen).shares
        bills.append(_bill(job, models_at(services, name), shares, (times, times), rates))
    last = max([seen, *beside.values()], key=lambda it: (it.nights, it.ends_at))

    def a_day(daily: int) -> dict[str, int | None]:
        """Captions by the share of images that are refused."""
        expected = auto.forecasts(
            size if isinstance(asked_for, int) else None,
            requests_per_day=daily,
            limits=top,
            measured=measured,
        )
        return {f"{case.refused:g}": case.captions_per_day for case in expected}

    return {
        "job": job.name,
        "model": job.endpoint.model,
        "rows": counts.rows,
        "images": counts.images,
        "prompts": {"count": len(job.prompt.texts), "mode": job.prompt.mode},
        "captioned": counts.captioned,
        "failed": sum(counts.failed.values()),
        "to_ask": counts.asked,
        "second_questions": second.shown(beside),
        "images_per_request": size,
        "measured": _measured(rates),
        "requests": packs + sum(second.alone.values()),
        "limits": limits_of(services),
        "today": today_of(services),
        "binding_limit": seen.binding,
        "requests_per_day": seen.daily,
        "captions_per_day": a_day(seen.daily),
        **endpoints_of(services, paces, a_day),
        "nights": last.nights,
        "ends_at": iso(last.ends_at),
        **_costs(job, bills),
    }


def _paces(
    job: JobConfig,
    services: Mapping[str, ServiceStatus],
    size: int,
    rates: Rates | None,
    now: float,
) -> dict[str, Pace]:
    """How fast each endpoint takes packs of so many."""
    each, paces = one_by_one(job), dict[str, Pace]()
    for name, status in services.items():
        concurrency = each[name].quota.concurrency
        paces[name] = pace_of(size, status, now=now, concurrency=concurrency, rates=rates)
    return paces


def _measured(rates: Rates | None) -> dict[str, Any] | None:
    """What earlier runs tell."""
    if rates is None:
        return None
    return {
        "requests": rates.requests,
        "latency_seconds": round(rates.latency, 3),
        "answered": round(rates.answered, 4),
        "answered_per_request": None if rates.each is None else round(rates.each, 3),
    }


def _tokens(job: JobConfig, asked: int, requests: int, rates: Rates | None) -> dict[str, int]:
    """Tokens of all images: as measured, else estimated."""
    if rates is not None and rates.prompt_tokens and rates.completion_tokens:
        prompt, completion = asked * rates.prompt_tokens, asked * rates.completion_tokens
        return {"prompt": int(prompt), "completion": int(completion)}
    prompts = [cost.text_tokens(text) for text in job.prompt.texts.values()]
    text = requests * sum(prompts) // len(prompts)
    text += requests * cost.system_tokens(job.prompt.system)
    return {
        "prompt": asked * 2 * cost.TOKENS_PER_TILE + text,
        "completion": asked * cost.CAPTION_TOKENS // 2,
    }


@dataclass(frozen=True, slots=True)
class _Bill:
    """What images cost that are asked of one model."""

    services: Mapping[str, ServiceStatus]
    #: Each endpoint's share.
    shares: Mapping[str, float]
    #: `prompt` and `completion` (tokens), `image`, `request`.
    counts: Mapping[str, int]


def _bill(
    job: JobConfig,
    services: Mapping[str, ServiceStatus],
    shares: Mapping[str, float],
    asked: tuple[int, int],
    rates: Rates | None,
) -> _Bill:
    """asked: images and requests."""
    images, requests = asked
    tokens = _tokens(job, images, requests, rates)
    return _Bill(services, shares, {**tokens, "image": images, "request": requests})


def _costs(job: JobConfig, bills: Sequence[_Bill]) -> dict[str, Any]:
    """Tokens and dollars; where a tier at half the price is asked for also without it."""
    tokens = {what: sum(bill.counts[what] for bill in bills) for what in ("prompt", "completion")}
    costs: dict[str, Any] = {"tokens": tokens, "cost_usd": _money(bills)}
    if any(own.endpoint.service_tier for own in one_by_one(job).values()):
        costs["usual_cost_usd"] = _money(bills, usual=True)
    return costs


def _prompts(prompts: Mapping[str, Any]) -> str:
    """What several prompts make of the counts."""
    several = {
        "each": ", each image counted once for each of its {} prompts",
        "sample": ", each asked with one of {} prompts",
    }
    return several[prompts["mode"]].format(prompts["count"]) if prompts["count"] > 1 else ""


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
    if (usual := figures.get("usual_cost_usd")) is not None:
        money += f" at the tier flex, ${usual:.4g} at the usual one"
    said = [
        (
            f"{figures['job']}: {counted(figures['images'], 'image')} in {counted(figures['rows'], 'row')}"
            f"{_prompts(figures['prompts'])}; {figures['captioned']:,} captioned, {figures['failed']:,} failed, {figures['to_ask']:,} to ask"
        ),
        (
            f"{counted(figures['requests'], 'request')} of {counted(figures['images_per_request'], 'image')}; about "
            f"{figures['tokens']['prompt'] + figures['tokens']['completion']:,} tokens; cost {money}"
        ),
        "limits: " + ("; ".join(text) or "none known"),
    ]
    said += second_lines(figures["second_questions"])
    if day is not None and day["left"] is not None:
        said.append(f"today: {day['used']} used, {day['left']} left, new at {day['resets_at']}")
    if not figures["to_ask"]:
        return [*said, *figures["warnings"], *_end(figures)]
    rates = ", ".join(
        f"{count:,} at {float(share) * 100:g} % refused"
        for share, count in figures["captions_per_day"].items()
    )
    said.append(
        f"captions a day, by the share of images that the service refuses: {rates} (bound by {figures['binding_limit'].replace('_', ' ')})"
    )
    said += endpoint_lines(figures)
    if rates := figures["measured"]:
        said.append(
            f"measured over {counted(rates['requests'], 'request')}: {rates['latency_seconds']:g} s an answer, "
            f"{rates['answered'] * 100:.1f} % of the images asked were answered"
        )
    else:
        said.append(
            f"nothing was measured yet: reckoned with {LATENCY:g} s an answer, all answered"
        )
    said += figures["warnings"]
    return [*said, *_end(figures)]


def _end(figures: Mapping[str, Any]) -> list[str]:
    """When the last caption is there, and what would bring that nearer."""
    daily, nights, left = (
        figures["limits"]["requests_per_day"],
        figures["nights"],
        figures["to_ask"],
    )
    if not left:
        return ["nothing left to ask"]
    if daily is None and nights == 1:
        return [f"ends about {figures['ends_at']} when it starts now"]
    said = [f"{counted(nights, 'night')}, until about {figures['ends_at']}"]
    if daily and nights > 1 and figures["images_per_request"] == 1:
        fewer = math.ceil(left / _PACK / daily)
        said.append(
            f"packing.images_per_request: {_PACK} sends {_PACK} images in one request: about {counted(fewer, 'night')}"
        )
    return said


__all__ = ["facts", "lines", "plan_command", "plan_of"]
