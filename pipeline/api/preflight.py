"""What the service says of the model and the key before the first request that counts.

`/models` and `/key` are free. A service without them is taken as it is, with a warning; a model
that is gone, cannot see, or costs money unasked ends the run here, with a line that says what
to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from pipeline.api.client import Client
from pipeline.api.endpoint import Endpoint
from pipeline.api.wire import Capabilities
from pipeline.errors import KeyTrouble, NoReply, ServiceError
from pipeline.records import Completion, Limits, Reply

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One entry of `/models`."""

    id: str
    takes_images: bool = True
    #: US dollars per token, image and request; None when not told.
    prices: Mapping[str, float] | None = None
    context: int | None = None
    max_output: int | None = None
    parameters: frozenset[str] | None = None
    #: ISO date after which it may be gone.
    expires: str | None = None

    @property
    def free(self) -> bool:
        """All prices told, and all zero."""
        return self.prices is not None and not any(self.prices.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What preflight learned."""

    model: Model
    #: `/key`: has credit ever been bought? None when not told.
    free_tier: bool | None = None
    #: `/key`: requests to free models today, and how many there may be.
    used_today: int | None = None
    day_limit: int | None = None
    #: Seconds by which this machine's clock is ahead of the service's; None when not told.
    clock_off: float | None = None
    warnings: tuple[str, ...] = field(default=())


async def look(client: Client, endpoint: Endpoint) -> Service:
    """Ask the service about model and key.

    ServiceError (69): not reachable, model gone or blind. KeyTrouble (77): key refused, or a
    price where `allow_paid` is false.
    """
    warnings: list[str] = []
    model, heard = await _model(client, endpoint, warnings)
    service = Service(model=model, clock_off=_clock_off(heard))
    if endpoint.profile.has_key_call:
        service = await _key(client, service, warnings)
    price = _price(model)
    if price and not endpoint.settings.allow_paid and endpoint.profile.tells_prices:
        raise KeyTrouble(
            f"{model.id} costs money ({price}) and endpoint.allow_paid is false: choose a free "
            "model (caption-pipeline models) or set allow_paid: true"
        )
    if model.expires:
        warnings.append(f"{model.id} is announced to end on {model.expires}")
    return replace(service, warnings=tuple(warnings))


def _clock_off(reply: Reply | None) -> float | None:
    """By the `Date` header, which has whole seconds."""
    try:
        date = parsedate_to_datetime(reply.headers["date"]).timestamp() if reply else None
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return reply.at / 1e6 - date if reply is not None and date is not None else None


async def _model(
    client: Client, endpoint: Endpoint, warnings: list[str]
) -> tuple[Model, Reply | None]:
    wanted = endpoint.settings.model
    unknown = Model(id=wanted)
    if endpoint.profile.models_path is None:
        return unknown, None
    try:
        reply = await client.get(endpoint.profile.models_path)
    except NoReply as lost:
        raise ServiceError(
            f"{endpoint.base_url}: {lost.message}; is the address right and the service up?"
        ) from None
    _refused_key(reply, endpoint)
    models = models_of(_json(reply))
    if not models:
        warnings.append("the service does not list its models; the model is taken on trust")
        return unknown, reply
    for name in (wanted, wanted.partition(":")[0] if ":free" not in wanted else wanted):
        for model in models:
            if model.id in (name, f"models/{name}"):
                if not model.takes_images:
                    raise ServiceError(f"{wanted} does not take images; {_instead(models)}")
                return replace(model, id=wanted), reply
    if not endpoint.profile.tells_prices:
        known = ", ".join(model.id for model in models[:5])
        raise ServiceError(f"{endpoint.base_url} has no model {wanted!r}; it has: {known}")
    why = GONE.get(wanted, "the service does not list it any more")
    raise ServiceError(f"the model {wanted} is gone: {why}; {_instead(models)}")


def _instead(models: list[Model]) -> str:
    """Up to five models that take images, cheapest first, then largest context."""
    able = [m for m in models if m.takes_images and m.prices is not None]
    able.sort(key=lambda m: (sum((m.prices or {}).values()), -(m.context or 0), m.id))
    names = ", ".join(m.id + (" (free)" if m.free else "") for m in able[:5])
    if not names:
        return "set endpoint.model to one that takes images"
    return f"set endpoint.model to one that takes images, such as {names}"


def _refused_key(reply: Reply, endpoint: Endpoint) -> None:
    if reply.status == 401:
        variable = endpoint.settings.api_key_env or endpoint.profile.key_env or "the key"
        raise KeyTrouble(
            f"{endpoint.base_url} refuses the key in {variable}: check that it is whole and not revoked"
        )


async def _key(client: Client, service: Service, warnings: list[str]) -> Service:
    """`GET /key`: is it a good key, and what is left today?"""
    try:
        reply = await client.get("/key")
    except NoReply as lost:
        warnings.append(f"/key did not answer ({lost.message}); today's use is not known")
        return service
    _refused_key(reply, client.endpoint)
    held = _json(reply)
    facts = held.get("data") if isinstance(held, dict) else None
    if reply.status != 200 or not isinstance(facts, dict):
        warnings.append("/key told nothing; today's use is not known")
        return service
    daily = facts.get("free_model_daily_requests")
    daily = daily if isinstance(daily, dict) else {}
    free_tier = facts.get("is_free_tier")
    return replace(
        service,
        free_tier=free_tier if isinstance(free_tier, bool) else None,
        used_today=_whole(daily.get("used")),
        day_limit=_whole(daily.get("limit")),
    )


def models_of(value: Any) -> list[Model]:
    """The entries of a `/models` body; [] when it is none. Never raises."""
    entries = value.get("data") if isinstance(value, dict) else None
    found = []
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
            continue
        architecture = entry.get("architecture")
        top = entry.get("top_provider")
        parameters = entry.get("supported_parameters")
        found.append(
            Model(
                id=entry["id"],
                takes_images=_takes_images(architecture),
                prices=_prices(entry.get("pricing")),
                context=_whole(entry.get("context_length") or entry.get("max_model_len")),
                max_output=_whole(top.get("max_completion_tokens"))
                if isinstance(top, dict)
                else None,
                parameters=frozenset(map(str, parameters))
                if isinstance(parameters, list)
                else None,
                expires=str(entry["expiration_date"]) if entry.get("expiration_date") else None,
            )
        )
    return found


def _takes_images(architecture: Any) -> bool:
    """By `input_modalities`, by the older `modality: text+image->text`; not told means yes."""
    if not isinstance(architecture, dict):
        return True
    modalities = architecture.get("input_modalities")
    if isinstance(modalities, list):
        return "image" in modalities
    modality = architecture.get("modality")
    return "image" in modality.split("->")[0] if isinstance(modality, str) else True


def _prices(pricing: Any) -> dict[str, float] | None:
    """Decimal strings in US dollars; a negative one (variable price) counts as a price."""
    if not isinstance(pricing, dict):
        return None
    prices = {}
    for name in ("prompt", "completion", "image", "request"):
        try:
            prices[name] = abs(float(pricing.get(name) or 0))
        except (TypeError, ValueError):
            return None
    return prices


def _price(model: Model) -> str:
    """The prices above zero, in words."""
    words = []
    for name, price in (model.prices or {}).items():
        if price:
            per_million = name in ("prompt", "completion")
            words.append(
                f"${price * 1e6:.4g} per million {name} tokens"
                if per_million
                else f"${price:.4g} an {name}"
            )
    return ", ".join(words)


def _json(reply: Reply) -> Any:
    try:
        return orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return None


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < 1e15 else None


def limits_of(endpoint: Endpoint, service: Service) -> Limits:
    """The limits that hold for this endpoint and model, each with its source."""
    model, profile = service.model, endpoint.profile
    if not profile.openrouter_fields:
        return profile.limits
    if model.id.endswith(":free"):
        day = service.day_limit or (
            FREE_PER_DAY_BOUGHT if service.free_tier is False else FREE_PER_DAY
        )
        told = "told by /key" if service.day_limit else "OpenRouter's free limit"
        return Limits(
            requests_per_minute=FREE_PER_MINUTE,
            requests_per_day=day,
            used_today=service.used_today,
            sources={"requests_per_minute": "OpenRouter's free limit", "requests_per_day": told},
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
    prices = model.prices or {}
    return (
        tokens_in * prices.get("prompt", 0.0)
        + tokens_out * prices.get("completion", 0.0)
        + images * prices.get("image", 0.0)
        + prices.get("request", 0.0)
    )


def unasked_price(endpoint: Endpoint, completion: Completion) -> str | None:
    """Why this reply must stop the run: it cost money, and that was never agreed to."""
    cost = completion.cost_usd
    if endpoint.settings.allow_paid or not cost:
        return None
    served = completion.served_model or endpoint.settings.model
    return (
        f"{served} charged ${cost:.4g} for one request and endpoint.allow_paid is false: "
        "choose a free model or set allow_paid: true"
    )


__all__ = ["Model", "Service", "capabilities_of", "limits_of", "look", "unasked_price"]
