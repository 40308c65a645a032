"""`/models` as values: what a service has, for whom and at which price. Pure, never raises.

OpenRouter tells most; other services tell an id and little more, and nothing counts against a
model that is not told.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

#: A model that is announced to end sooner is not chosen.
LASTS_DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One entry of `/models`."""

    id: str
    takes_images: bool = True
    gives_text: bool = True
    #: US dollars per token, image and request; None when not told.
    prices: Mapping[str, float] | None = None
    context: int | None = None
    max_output: int | None = None
    parameters: frozenset[str] | None = None
    #: ISO date after which it may be gone.
    expires: str | None = None
    #: Other names that the service takes for it.
    aliases: tuple[str, ...] = ()
    #: At the usual tier, where `prices` are those of another one.
    usual_prices: Mapping[str, float] | None = None

    @property
    def free(self) -> bool:
        """All prices told, and all zero."""
        return self.prices is not None and not any(self.prices.values())


def models_of(value: Any) -> list[Model]:
    """The entries of a `/models` body, a bare list too; [] when it is none. Never raises."""
    entries = value.get("data", value.get("models")) if isinstance(value, dict) else value
    entries = list(entries.values()) if isinstance(entries, dict) else entries
    blind = _blind_ones(value)
    models = []
    for entry in entries if isinstance(entries, list) else []:
        entry = {"id": entry} if isinstance(entry, str) else entry
        name = _id(entry) if isinstance(entry, dict) else None
        if name is None:
            continue
        architecture = entry.get("architecture")
        top = entry.get("top_provider")
        parameters = entry.get("supported_parameters")
        models.append(
            Model(
                id=name,
                takes_images=name not in blind
                and _sees(entry)
                and _has(architecture, "input_modalities", "image", 0),
                gives_text=_has(architecture, "output_modalities", "text", 1),
                prices=prices_of(entry.get("pricing")),
                context=_context(entry),
                max_output=whole(
                    top.get("max_completion_tokens")
                    if isinstance(top, dict)
                    else entry.get("max_output_tokens", entry.get("outputTokenLimit"))
                ),
                parameters=frozenset(map(str, parameters))
                if isinstance(parameters, list)
                else None,
                expires=str(entry["expiration_date"]) if entry.get("expiration_date") else None,
                aliases=_names(entry.get("aliases")),
            )
        )
    return models


def _id(entry: dict[str, Any]) -> str | None:
    """What a model is called: by OpenAI's field, or by those of Ollama's and Google's own lists."""
    names = (entry.get(field) for field in ("id", "name", "model"))
    return next((name for name in names if isinstance(name, str) and name), None)


def _sees(entry: dict[str, Any]) -> bool:
    """False where an entry says that its model takes no images: Mistral, Groq, Moonshot and kin."""
    capabilities = entry.get("capabilities")
    if isinstance(capabilities, dict) and capabilities.get("vision") is False:
        return False
    if any(entry.get(name) is False for name in ("supports_vision", "supports_image_in")):
        return False
    return _has(entry, "input_modalities", "image", 0)


def _blind_ones(value: Any) -> set[str]:
    """Models that llama.cpp's second list knows as text-only (in versions without modalities)."""
    second = value.get("models") if isinstance(value, dict) and "data" in value else None
    return {
        str(entry.get("name"))
        for entry in (second if isinstance(second, list) else [])
        if isinstance(entry, dict)
        and isinstance(entry.get("capabilities"), list)
        and "completion" in entry["capabilities"]
        and not {"multimodal", "vision"} & set(map(str, entry["capabilities"]))
    }


#: Names of the context, the one that is loaded now first.
_CONTEXTS = (
    *("loaded_context_length", "context_length", "max_model_len", "max_input_tokens"),
    *("max_context_length", "context_window", "inputTokenLimit"),
)


def _context(entry: dict[str, Any]) -> int | None:
    """The context in tokens, in the words of OpenRouter, vLLM, LiteLLM, LM Studio or llama.cpp."""
    meta = entry.get("meta")
    sizes = [entry.get(name) for name in _CONTEXTS]
    sizes += [meta.get("n_ctx")] if isinstance(meta, dict) else []
    return next((size for size in map(whole, sizes) if size), None)


def _names(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def with_info(models: list[Model], value: Any) -> list[Model]:
    """The models with what LiteLLM's `/model/info` tells of prices and limits. Never raises."""
    entries = value.get("data") if isinstance(value, dict) else None
    info = {
        str(entry.get("model_name")): entry["model_info"]
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get("model_info"), dict)
    }
    return [_priced(model, info[model.id]) if model.id in info else model for model in models]


def _priced(model: Model, info: dict[str, Any]) -> Model:
    priced = {
        "prompt": info.get("input_cost_per_token"),
        "completion": info.get("output_cost_per_token"),
        "image": info.get("input_cost_per_image"),
    }
    prices = None if all(price is None for price in priced.values()) else prices_of(priced)
    return replace(
        model,
        prices=model.prices or prices,
        context=model.context or whole(info.get("max_input_tokens")),
        max_output=model.max_output or whole(info.get("max_output_tokens")),
    )


def named(models: Iterable[Model], wanted: str) -> Model | None:
    """The model of that name. OpenRouter takes variants (`:nitro`) of a listed id, free ones are
    ids of their own; Google lists `models/ID`; Ollama's name without a tag is `:latest`.
    """
    names = [wanted, f"models/{wanted}", wanted.removeprefix("models/"), f"{wanted}:latest"]
    if not wanted.endswith(":free"):
        names.append(wanted.partition(":")[0])
    by_id: dict[str, Model] = {}
    for model in models:
        for name in (model.id, *model.aliases):
            by_id.setdefault(name, model)
    return next((by_id[name] for name in names if name in by_id), None)


def wildcard(models: Iterable[Model], wanted: str) -> Model | None:
    """A listed pattern (`*`, `openai/*`) that this name fits: nothing else is known of it."""
    patterns = [model.id for model in models if model.id.endswith("*")]
    fits = any(wanted.startswith(pattern[:-1]) for pattern in patterns)
    return Model(id=wanted) if fits else None


def _has(architecture: Any, name: str, wanted: str, side: int) -> bool:
    """By the list of modalities, by the older `modality: text+image->text`; not told means yes."""
    if not isinstance(architecture, dict):
        return True
    modalities = architecture.get(name)
    if isinstance(modalities, list):
        return wanted in modalities
    modality = architecture.get("modality")
    sides = modality.split("->") if isinstance(modality, str) else []
    return wanted in sides[side] if len(sides) == 2 else True


def prices_of(pricing: Any) -> dict[str, float] | None:
    """Decimal strings in US dollars. One that cannot be known (negative: it varies; no number)
    is above every other, never nothing."""
    if not isinstance(pricing, dict):
        return None
    prices = {}
    for name in ("prompt", "completion", "image", "request"):
        try:
            price = float(pricing.get(name) or 0)
        except (TypeError, ValueError):
            price = math.inf
        prices[name] = price if 0 <= price < math.inf else math.inf
    return prices


def flex_prices(value: Any) -> dict[str, float] | None:
    """The prices of the flex tier by a model's list of endpoints: of those that are tagged so the
    dearest, since any may answer. None where there is none."""
    data = value.get("data") if isinstance(value, dict) else None
    entries = data.get("endpoints") if isinstance(data, dict) else None
    tagged = [
        prices
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict)
        and str(entry.get("tag")).endswith("/flex")
        and (prices := prices_of(entry.get("pricing"))) is not None
    ]
    if not tagged:
        return None
    return {name: max(prices[name] for prices in tagged) for name in tagged[0]}


def cheapest_first(models: Iterable[Model]) -> list[Model]:
    """Those that take images, by the sum of their prices, then by the larger context."""
    able = [model for model in models if model.takes_images and model.gives_text]
    return sorted(able, key=lambda m: (sum((m.prices or {}).values()), -(m.context or 0), m.id))


def free_vision(models: Iterable[Model], *, now: float) -> Model | None:
    """`auto:free-vision`: free, takes images, not ending within 30 days, the largest context.

    Ids of OpenRouter's own (`openrouter/…`) are routers and models without a name: what answers
    changes from day to day, so they are never chosen.
    """
    fit = [
        model
        for model in cheapest_first(models)
        if model.free and _lasts(model, now) and not model.id.startswith("openrouter/")
    ]
    return min(fit, key=lambda m: (-(m.context or 0), m.id), default=None)


def _lasts(model: Model, now: float) -> bool:
    if model.expires is None:
        return True
    try:
        ends = datetime.fromisoformat(model.expires)
    except ValueError:
        return False
    ends = ends if ends.tzinfo else ends.replace(tzinfo=UTC)
    return ends.timestamp() - now >= LASTS_DAYS * 86_400


def whole(value: Any) -> int | None:
    """A count; None for anything else."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 16:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < 1e15 else None
