"""What the service says of the model and the key before the first request that counts.

`/models` and `/key` are free. A service without them is taken as it is, with a warning; a model
that is gone, cannot see, or costs money unasked ends the run here, with a line that says what
to do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from pipeline.clock import http_date
from pipeline.errors import KeyTrouble, NoReply, ServiceError
from pipeline.model import Completion, Limits, Reply
from pipeline.service.body import json_of
from pipeline.service.client import Client
from pipeline.service.endpoint import Endpoint
from pipeline.service.list_models import list_models, refused_key
from pipeline.service.models import (
    Model,
    cheapest_first,
    flex_prices,
    models_of,
    named,
    whole,
    wildcard,
)
from pipeline.service.wire import Capabilities
from pipeline.verdict import Kind, Verdict

_NONE: Mapping[str, str] = MappingProxyType({})
#: Models that were shut down: what a user of the old default reads.
GONE = {
    "google/gemini-flash-1.5-8b-exp": (
        "Google shut down the experimental Gemini 1.5 Flash-8B (its family ended on 2025-09-29)"
    )
}
#: OpenRouter, free models: 20 a minute; 50 a day, 1,000 once 10 credits were bought
#: (openrouter.ai/docs/api_reference/limits).
FREE_PER_MINUTE, FREE_PER_DAY, FREE_PER_DAY_BOUGHT = 20, 50, 1000
#: `-exp` slugs without `:free` met limits of their own: 4 to 20 a minute, 80 to 200 a day were
#: seen in 2024-25; the careful end of the day, the middle of the minute.
EXP_PER_MINUTE, EXP_PER_DAY = 15, 80


#: The remedy where the program chose the model itself. The model is part of an image's identity.
AGAIN = "run once with --yes to let another free one be chosen (it asks every image again)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What preflight learned."""

    model: Model
    #: `/key`: has credit ever been bought? None when not told.
    free_tier: bool | None = None
    #: `/key`: requests to free models today, and how many there may be.
    used_today: int | None = None
    day_limit: int | None = None
    #: Models that may be asked beside `model`, by the names that requests give.
    others: Mapping[str, Model] = field(default_factory=dict)
    #: Seconds by which this machine's clock is ahead of the service's; None when not told.
    clock_off: float | None = None
    warnings: tuple[str, ...] = field(default=())


async def look(
    client: Client,
    endpoint: Endpoint,
    *,
    patience: float = 0.0,
    only_plan: bool = False,
    others: Mapping[str, str] = _NONE,
) -> Service:
    """Ask the service about model and key.

    patience: seconds to wait for a service that does not answer at all. only_plan: nothing will
    be asked, so that a price which nobody agreed to is a warning. others: models that may be asked
    beside endpoint.model -> the key of the job file that names them.

    ServiceError (69): not reachable, model gone or blind. KeyTrouble (77): key refused, or a
    price where `allow_paid` is false.
    """
    warnings: list[str] = []
    model, beside, record_result = await _models(client, endpoint, patience, warnings, others)
    if endpoint.settings.service_tier == "flex" and endpoint.profile.tells_prices:
        model = await _at_flex(client, model)
        beside = {name: await _at_flex(client, each) for name, each in beside.items()}
    service = Service(model=model, others=beside, clock_off=_clock_off(record_result))
    if endpoint.profile.has_key_call:
        service = await _key(client, service, warnings)
    for each in (model, *beside.values()):
        if (refusal := _unpaid(each, endpoint)) is None:
            continue
        if not only_plan:
            raise KeyTrouble(refusal)
        warnings.append(f"a run would stop: {refusal}")
    asked = endpoint.settings.params.get("max_tokens")
    if isinstance(asked, int) and model.max_output is not None and asked > model.max_output:
        warnings.append(
            f"endpoint.params.max_tokens is {asked}, and {model.id} answers with at most "
            f"{model.max_output} tokens"
        )
    if model.expires:
        warnings.append(f"{model.id} is announced to end on {model.expires}")
    return replace(service, warnings=tuple(warnings))


def _unpaid(model: Model, endpoint: Endpoint) -> str | None:
    """Why no request may be sent: a price that nobody agreed to."""
    price = _price(model)
    tells = endpoint.profile.tells_prices or endpoint.profile.info_path is not None
    if not price or endpoint.settings.allow_paid or not tells:
        return None
    other = (
        AGAIN
        if endpoint.chosen
        else "choose a free model (python -m pipeline models JOB lists them)"
    )
    return (
        f"{model.id} costs money ({price}) and endpoint.allow_paid is false: {other} or set "
        "allow_paid: true"
    )


async def _at_flex(client: Client, model: Model) -> Model:
    """The model with its prices at the flex tier. One that has none would run at the full price
    without an error: KeyTrouble; ServiceError where that cannot be looked up."""
    path = f"/models/{model.id.partition(':')[0]}/endpoints"
    try:
        reply = await client.get(path)
    except NoReply as lost:
        raise ServiceError(
            f"{path}: {lost.message}; whether there is a flex tier is not known"
        ) from None
    value = json_of(reply.body)
    if reply.status != 200 or not isinstance(value, dict):
        raise ServiceError(
            f"{path} answers HTTP {reply.status}: whether {model.id} has a flex tier is not known; run "
            "again later"
        )
    prices = flex_prices(value)
    if prices is None:
        raise KeyTrouble(
            f"{model.id} has no flex tier, so that it would run at the full price: take "
            "endpoint.service_tier out, or choose a model that has one"
        )
    return replace(model, prices=prices, usual_prices=model.prices)


def _clock_off(reply: Reply | None) -> float | None:
    """By the `Date` header, which has whole seconds."""
    try:
        date = http_date(reply.headers["date"]) if reply else None
    except (KeyError, ValueError):
        return None
    return reply.at / 1e6 - date if reply is not None and date is not None else None


async def _models(
    client: Client,
    endpoint: Endpoint,
    patience: float,
    warnings: list[str],
    others: Mapping[str, str],
) -> tuple[Model, dict[str, Model], Reply | None]:
    """The model, the others, and the list they stand in."""
    wanted = endpoint.settings.model
    unknown = Model(id=wanted)
    if endpoint.profile.models_path is None:
        return unknown, {}, None
    models, reply = await list_models(client, endpoint, patience=patience)
    if not models:
        warnings.append(_unlisted(reply, endpoint))
        return unknown, {}, reply
    model = named(models, wanted) or wildcard(models, wanted)
    if model is not None:
        if not model.takes_images:
            raise ServiceError(f"{wanted} does not take images; {_instead(models, endpoint)}")
        return replace(model, id=wanted), _others(models, endpoint, others), reply
    if not endpoint.profile.tells_prices:
        known = ", ".join(model.id for model in models[:5])
        if endpoint.profile.name == "embedded":
            raise ServiceError(f"the embedded service has no model {wanted!r}; it has: {known}")
        warnings.append(
            f"the service does not list {wanted!r}, which is taken on trust; it lists: {known}; endpoint.model names one"
        )
        return unknown, {}, reply
    why = GONE.get(wanted, "the service does not list it any more")
    raise ServiceError(f"the model {wanted} is gone: {why}; {_instead(models, endpoint)}")


def _unlisted(reply: Reply, endpoint: Endpoint) -> str:
    """Why nothing is known of the model, and what to look at."""
    if reply.status < 400:
        return "the service does not list its models; the model is taken on trust"
    line = f"/models answers HTTP {reply.status}; the model is taken on trust"
    variable = endpoint.settings.api_key_env or endpoint.profile.key_env
    if endpoint.key is None and variable:
        line += f"; no key is set: if the service wants one, put it into {variable}"
    return line


def _others(models: list[Model], endpoint: Endpoint, others: Mapping[str, str]) -> dict[str, Model]:
    """Fallback models, and those for second questions. A dead id fails every request, a blind one
    is found out later: ServiceError."""
    profile, sent = endpoint.profile, endpoint.settings.fallback_models
    keys = dict.fromkeys(sent if profile.openrouter_fields else (), "endpoint.fallback_models")
    others_told = {}
    for name, key in {**others, **keys}.items():
        model = named(models, name) or wildcard(models, name)
        if model is None and not profile.tells_prices:
            continue  # taken on trust, as endpoint.model is
        if model is None or not model.takes_images:
            wrong = "is not listed" if model is None else "does not take images"
            raise ServiceError(f"{key}: {name} {wrong}; take it out")
        others_told[name] = replace(model, id=name)
    return others_told


def _instead(models: list[Model], endpoint: Endpoint) -> str:
    """The remedy: up to five models that take images, cheapest first, then largest context."""
    able = [model for model in cheapest_first(models) if model.prices is not None]
    names = ", ".join(m.id + (" (free)" if m.free else "") for m in able[:5])
    advice = "set endpoint.model to one that takes images" + (f", such as {names}" if names else "")
    return f"{AGAIN}, or {advice}" if endpoint.chosen else advice


async def _key(client: Client, service: Service, warnings: list[str]) -> Service:
    """`GET /key`: is it a good key, and what is left today?"""
    try:
        reply = await client.get("/key")
    except NoReply as lost:
        warnings.append(f"/key did not answer ({lost.message}); today's use is not known")
        return service
    refused_key(reply, client.endpoint)
    value = json_of(reply.body)
    facts = value.get("data") if isinstance(value, dict) else None
    if reply.status != 200 or not isinstance(facts, dict):
        warnings.append("/key told nothing; today's use is not known")
        return service
    daily = facts.get("free_model_daily_requests")
    daily = daily if isinstance(daily, dict) else {}
    free_tier = facts.get("is_free_tier")
    return replace(
        service,
        free_tier=free_tier if isinstance(free_tier, bool) else None,
        used_today=whole(daily.get("used")),
        day_limit=whole(daily.get("limit")),
    )


async def confirms(client: Client, endpoint: Endpoint, verdict: Verdict) -> bool:
    """Do `/key` or `/models`, which are free, say what a fatal answer says: the key is refused, or
    the model is gone, blind or no longer free?"""
    fatal = verdict.kind is Kind.ACCOUNT_FATAL
    path = "/key" if fatal and endpoint.profile.has_key_call else endpoint.profile.models_path
    if path is None:
        return False
    try:
        reply = await client.get(path)
        refused_key(reply, endpoint)
        models = models_of(json_of(reply.body))
        model = named(models, endpoint.settings.model)
        if model is not None and _unpaid(model, endpoint) is not None:
            return True
    except NoReply:
        return False
    except KeyTrouble:
        return True
    return not fatal and bool(models) and (model is None or not model.takes_images)


def _price(model: Model) -> str:
    """The prices above zero, in words."""
    parts = []
    for name, price in (model.prices or {}).items():
        if price == math.inf:
            parts.append(f"a {name} price that is not told")
        elif price:
            per_million = name in ("prompt", "completion")
            parts.append(
                f"${price * 1e6:.4g} per million {name} tokens"
                if per_million
                else f"${price:.4g} {'an' if name == 'image' else 'a'} {name}"
            )
    return ", ".join(parts)


def limits_of(endpoint: Endpoint, service: Service) -> Limits:
    """The limits that hold for this endpoint and model, each with its source."""
    limits = _limits_of(endpoint, service)
    # A group is one quota, whatever it is counted by.
    return replace(limits, day_scope="account") if endpoint.settings.quota_group else limits


def own_limits_of(endpoint: Endpoint, service: Service, model: Model) -> Limits | None:
    """The limits of another model than the service's own, where it does not count in the same quota."""
    limits = limits_of(endpoint, replace(service, model=model))
    same = limits == limits_of(endpoint, service) and limits.day_scope != "model"
    return None if same else limits


def _limits_of(endpoint: Endpoint, service: Service) -> Limits:
    model, profile = service.model, endpoint.profile
    if not profile.openrouter_fields:
        return replace(profile.limits, announced=bool(profile.windows))
    if model.id.endswith(":free"):
        day = service.day_limit or (
            FREE_PER_DAY_BOUGHT if service.free_tier is False else FREE_PER_DAY
        )
        origin = "told by /key" if service.day_limit else "OpenRouter's free limit"
        return Limits(
            requests_per_minute=FREE_PER_MINUTE,
            requests_per_day=day,
            used_today=service.used_today,
            sources={"requests_per_minute": "OpenRouter's free limit", "requests_per_day": origin},
        )
    if model.id.endswith("-exp") or (model.free and not model.id.endswith(":free")):
        source = "seen for experimental models"
        return Limits(
            requests_per_minute=EXP_PER_MINUTE,
            requests_per_day=EXP_PER_DAY,
            day_scope="model",
            sources={"requests_per_minute": source, "requests_per_day": source},
        )
    return Limits(sources={"requests_per_minute": "none for paid models"})


def capabilities_of(endpoint: Endpoint, model: Model) -> Capabilities:
    """What may be put into a request."""
    listed = model.parameters or frozenset()
    schema = endpoint.profile.json_schema
    return Capabilities(
        json_schema=schema == "always" or (schema == "listed" and "structured_outputs" in listed),
        reasoning="reasoning" in listed,
        max_output=model.max_output,
    )


def estimate(model: Model, *, tokens_in: int, tokens_out: int, images: int) -> float:
    """What a request is expected to cost, in US dollars; 0 where no price is told."""
    if not model.prices:
        return 0.0
    prices = {name: price for name, price in model.prices.items() if price < math.inf}
    return (
        tokens_in * prices.get("prompt", 0.0)
        + tokens_out * prices.get("completion", 0.0)
        + images * prices.get("image", 0.0)
        + prices.get("request", 0.0)
    )


def _other_tier(endpoint: Endpoint, completion: Completion) -> str | None:
    """That half the price was asked for, and this is not it."""
    if endpoint.settings.service_tier != "flex" or endpoint.profile.flex != "half":
        return None
    tier = completion.service_tier
    if tier == "flex" or (tier is None and not endpoint.profile.tells_prices):
        return None
    served = completion.served_model or endpoint.settings.model
    where = "without saying at which tier" if tier is None else f"at the tier {tier}"
    return (
        f"{served} answered {where}, not at flex, and so at its full price: take endpoint.service_tier "
        "out, or choose a model that has it"
    )


def unasked_price(endpoint: Endpoint, completion: Completion) -> str | None:
    """Why this reply must stop the run: it cost money, or more of it, and that was never agreed to."""
    if tier := _other_tier(endpoint, completion):
        return tier
    cost = completion.cost_usd
    if endpoint.settings.allow_paid or not cost:
        return None
    served = completion.served_model or endpoint.settings.model
    return (
        f"{served} charged ${cost:.4g} for one request and endpoint.allow_paid is false: "
        "choose a free model or set allow_paid: true"
    )
