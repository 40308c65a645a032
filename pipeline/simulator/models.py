"""The models that a simulated service offers, and how OpenRouter lists them.

Prices are kept as numbers and told as decimal strings, as the service does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_PARAMETERS = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "seed",
    "response_format",
    "structured_outputs",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model behind one endpoint."""

    id: str
    #: US dollars per token in, per token out, per image.
    prompt: float = 0.0
    completion: float = 0.0
    image: float = 0.0
    context: int = 1_000_000
    max_output: int = 8192
    created: int = 1_724_803_200
    inputs: tuple[str, ...] = ("text", "image")
    #: Request fields that the endpoint obeys; `structured_outputs` means JSON schema.
    supported: tuple[str, ...] = _PARAMETERS
    provider: str = "Google AI Studio"
    #: The dated slug, told in replies when the knob `permaslugs` is on.
    permaslug: str | None = None
    #: Day of removal, `2026-12-31`.
    expires: str | None = None
    #: Has it an endpoint at half the price?
    flex: bool = False

    @property
    def paid(self) -> bool:
        return self.prompt > 0 or self.completion > 0 or self.image > 0

    @property
    def provider_slug(self) -> str:
        """`google-ai-studio` for `Google AI Studio`."""
        return self.provider.lower().replace(" ", "-")


def decimal(price: float) -> str:
    """A price as the service writes it: `0`, `0.0000003`."""
    return f"{price:.12f}".rstrip("0").rstrip(".") or "0"


def _pricing(model: Model) -> dict[str, str]:
    return {
        "prompt": decimal(model.prompt),
        "completion": decimal(model.completion),
        "image": decimal(model.image),
        "request": "0",
    }


def _architecture(model: Model, era: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "modality": "+".join(model.inputs) + "->text",
        "tokenizer": "Gemini",
        "instruct_type": None,
    }
    if era != "2024":
        facts |= {"input_modalities": list(model.inputs), "output_modalities": ["text"]}
    return facts


def listed(model: Model, era: str) -> dict[str, Any]:
    """One entry of `GET /models`; in 2024 without the arrays of modalities."""
    facts: dict[str, Any] = {
        "id": model.id,
        "canonical_slug": model.permaslug or model.id,
        "name": model.id.replace("/", ": "),
        "created": model.created,
        "description": "A simulated model that looks at pixels.",
        "context_length": model.context,
        "architecture": _architecture(model, era),
        "pricing": _pricing(model),
        "top_provider": {
            "context_length": model.context,
            "max_completion_tokens": model.max_output,
            "is_moderated": False,
        },
        "per_request_limits": None,
    }
    if era != "2024":
        facts |= {
            "supported_parameters": list(model.supported),
            "default_parameters": None,
            "expiration_date": model.expires,
            "supported_voices": None,
            "links": {"details": f"/api/v1/models/{model.id}/endpoints"},
        }
    return facts


#: What a captioning model's endpoint has none of.
_ENDPOINT_2026: Mapping[str, Any] = {
    "native_tools": {},
    "service_tier": None,
    "supports_diarization": False,
    "supports_implicit_caching": False,
    "supports_tool_choice": dict.fromkeys(("auto", "function", "none", "required"), False),
}


def endpoints(model: Model, era: str) -> dict[str, Any]:
    """`GET /models/{author}/{slug}/endpoints`."""
    endpoint: dict[str, Any] = {
        "name": f"{model.provider} | {model.id}",
        "model_id": model.id,
        "model_name": model.id,
        "provider_name": model.provider,
        "tag": model.provider_slug,
        "context_length": model.context,
        "max_completion_tokens": model.max_output,
        "max_prompt_tokens": None,
        "quantization": None,
        "pricing": _pricing(model),
        "supported_parameters": list(model.supported),
        "status": 0,
        "uptime_last_5m": 100,
        "uptime_last_30m": 100,
        "uptime_last_1d": 100,
        "latency_last_30m": None,
        "throughput_last_30m": None,
    }
    if era != "2024":
        endpoint |= _ENDPOINT_2026
    facts = listed(model, era)
    kept = {name: facts[name] for name in ("id", "name", "created", "description", "architecture")}
    offered = [endpoint]
    if model.flex:
        pricing = {name: decimal(float(price) / 2) for name, price in endpoint["pricing"].items()}
        offered.append({**endpoint, "tag": f"{endpoint['tag']}/flex", "pricing": pricing})
    return {**kept, "endpoints": offered}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a query of `GET /models` lets through."""

    models: tuple[Model, ...]
    #: All that match, on this page or another.
    total: int
    #: The query of the next page.
    next: str | None = None


def chosen(models: tuple[Model, ...], asked: Mapping[str, str]) -> Page | str:
    """The page that a query asks for, or what is wrong with it. Without offset and limit, all."""
    matches = list(models)
    filters = {name: set(filter(None, text.split(","))) for name, text in asked.items()}
    if "supported_parameters" in filters:
        matches = [m for m in matches if filters["supported_parameters"] <= set(m.supported)]
    if "input_modalities" in filters:
        matches = [m for m in matches if filters["input_modalities"] <= set(m.inputs)]
    if "output_modalities" in filters:
        matches = [m for m in matches if filters["output_modalities"] <= {"text"}]
    if "q" in asked:
        matches = [m for m in matches if asked["q"].lower() in m.id.lower()]
    numbers = {}
    for name in ("offset", "limit"):
        if name in asked:
            if not (asked[name].isascii() and asked[name].isdigit() and len(asked[name]) < 10):
                return f"{name}: a whole number is required"
            numbers[name] = int(asked[name])
    start = numbers.get("offset", 0)
    size = numbers.get("limit", 500 if numbers else len(matches))
    more = f"offset={start + size}&limit={size}" if start + size < len(matches) else None
    return Page(models=tuple(matches[start : start + size]), total=len(matches), next=more)
