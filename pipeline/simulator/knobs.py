"""What can be turned on a simulated service: one frozen object, and the services as presets.

The defaults are an OpenRouter without limits and without faults. Shares are between 0 and 1;
times are seconds; `None` turns a thing off. Whatever is random is drawn from the seed and the
request itself (`luck.py`), so the same seed and the same requests give the same answers in any
order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.simulator.models import Model

#: Faults of one reply, dealt out with equal chance by `faulty`.
FAULTS = (
    "http_408",
    "http_500",
    "http_502",
    "http_503",
    "http_529",
    "html_502",
    "html_524",
    "html_429",
    "upstream_429",
    "error_in_200",
    "null_fields",
    "string_code",
    "choice_error",
    "null_choices",
    "no_choices",
    "nested_choices",
    "empty",
    "null_content",
    "cut_json",
    "cut_body",
    "blank",
    "reset",
)
#: Faults that must be asked for by name: answers that never end, cost a client's whole deadline,
#: or belong to paid accounts; and oddities that are no faults at all.
MORE_FAULTS = ("hang", "drip", "in_flight_402", "content_parts", "no_usage", "null_finish")
#: What a packed reply may do wrong, dealt out by `lying`.
LIES = (
    "drop",
    "swap",
    "repeat",
    "zero_based",
    "cut",
    "prose",
    "one_object",
    "fences",
    "comma",
    "shuffle",
    "extra",
)
#: Lies that must be asked for by name: only replies with typed fields have types to break.
MORE_LIES = ("types",)
#: Forms of an upstream 429, dealt out within a burst.
UPSTREAM_FORMS = ("shared_pool", "seconds", "google", "overloaded")

Window = Literal["fixed", "sliding", "bucket"]
Service = Literal[
    "openrouter", "google", "litellm", "vllm", "ollama", "openai", "groq", "mistral", "cerebras",
    "nvidia", "huggingface",
]  # fmt: skip
RefusedAs = Literal[
    "content_filter", "error_safety", "refusal", "blocked", "moderation", "cut", "mixed"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """Defaults are a service without limits and without faults."""

    # --- who it is
    #: Whose shapes of errors, replies and lists.
    service: Service = "openrouter"
    #: 2024: modalities as one string, cost only when asked for, no `limit_source`.
    era: Literal["2024", "2026"] = "2026"
    models: tuple[Model, ...] = ()
    #: Is a key required? And which are taken; empty: any.
    needs_key: bool = False
    keys: tuple[str, ...] = ()
    management_keys: tuple[str, ...] = ()
    #: Each key an account of its own? At OpenRouter more keys do not help.
    key_is_account: bool = False
    #: Has the account never bought credit? (`/key`)
    free_tier: bool = True
    #: Credit left in US dollars; None: never ends. Below 0 blocks free models too.
    balance_usd: float | None = None
    #: Spending limit of the key, and whether it starts anew each UTC day.
    key_limit_usd: float | None = None
    key_limit_daily: bool = False

    # --- limits
    #: Requests per minute and day, tokens per minute, of the account.
    rpm: int | None = None
    rpd: int | None = None
    tpm: int | None = None
    #: The same for each model endpoint.
    endpoint_rpm: int | None = None
    endpoint_rpd: int | None = None
    endpoint_tpm: int | None = None
    #: Do the account's limits hold for all models, or only for slugs that end in `:free`?
    limits_on: Literal["all", "free"] = "all"
    #: How minutes are counted, how days, and where a day begins.
    window: Window = "fixed"
    day_window: Window = "fixed"
    day_zone: str = "UTC"
    #: Do requests that end in a 429 count in fixed windows (and upstream refusals in all)?
    count_refused: bool = True
    #: Where rate headers stand.
    rate_headers: Literal["body", "http", "both", "none"] = "body"
    #: Is there a `Retry-After` on the HTTP response, and is it a date?
    retry_after: bool = False
    retry_after_date: bool = False
    #: Requests served at the same time; further ones wait, at most `queue` of them.
    slots: int | None = None
    queue: int | None = None

    # --- the upstream provider (its own 429s, in bursts)
    #: Mean seconds of quiet between bursts; None: never.
    upstream_quiet: float | None = None
    #: Mean seconds of a burst, the share refused within it, and in which forms.
    upstream_burst: float = 10.0
    upstream_share: float = 0.7
    upstream_forms: tuple[str, ...] = UPSTREAM_FORMS

    # --- time
    #: Seconds a reply takes: from … to (uniform), or median and 99th percentile (lognormal).
    latency: tuple[float, float] = (0.0, 0.0)
    latency_shape: Literal["uniform", "lognormal"] = "uniform"
    latency_per_image: float = 0.0
    #: Blank bytes sent before the body, spread over so many seconds after the headers.
    padding: int = 0
    padding_seconds: float = 0.0
    #: Comment lines before the first event of a stream.
    comments: int = 2
    #: Where a stream tells usage: in a chunk with `choices: []`, with an empty delta, or not.
    stream_usage: Literal["empty", "delta", "none"] = "empty"
    #: The server's clock minus ours.
    skew: float = 0.0

    # --- faults and lies
    #: Share of replies with a fault, and which.
    faulty: float = 0.0
    faults: tuple[str, ...] = FAULTS
    #: Share of packed replies that lie, and how; where `cut` cuts (None: anywhere).
    lying: float = 0.0
    lies: tuple[str, ...] = LIES
    cut_at: int | None = None
    #: Share of images that the model refuses, decided by the image itself, and how it says so.
    refused: float = 0.0
    refused_as: RefusedAs = "content_filter"
    #: Every request fails from … to (seconds after the start), and how; nothing of it counts.
    outage: tuple[float, float] | None = None
    outage_as: str = "http_502"
    #: The tier `flex` has no room from … to (seconds after the start).
    flex_full: tuple[float, float] | None = None
    #: Do the other routes fail during an outage too?
    outage_all: bool = False

    # --- what changes in mid-run, after so many counted requests
    #: The models asked so far are gone, told as 400, as 404, or as `the paid version is available`.
    gone_after: int | None = None
    gone_as: Literal["400", "404", "paid"] = "400"
    #: The key is revoked; the credit is spent; another model answers.
    revoked_after: int | None = None
    broke_after: int | None = None
    rerouted_after: int | None = None
    rerouted_to: str = "simulator/paid"

    # --- images
    #: Can the service fetch image URLs, and for which share of URLs does it fail?
    fetches_urls: bool = True
    url_failures: float = 0.0
    mimes: tuple[str, ...] = ("image/jpeg", "image/png", "image/webp")
    #: Must the declared type be the true one?
    strict_mime: bool = True
    max_images: int | None = None
    max_image_bytes: int = 20_000_000
    max_pixels: int = 100_000_000
    max_body: int = 30_000_000
    #: Tokens of an image: 258; by tiles of its own size (1.5, 2025); by tiles of 768 (2.x).
    tokens: Literal["flat", "tiles", "tiles768"] = "flat"

    # --- replies
    #: Tokens that thinking takes out of `max_tokens` before a word is said.
    thinking: int = 0
    #: Replies name the dated slug.
    permaslugs: bool = False
    #: Captions end in a fingerprint of the very bytes.
    fingerprint: bool = False
    #: Errors with their fields at the top (older vLLM).
    flat_errors: bool = False
    #: A reply without text has no choices at all (LiteLLM with Gemini).
    drops_empty_choices: bool = False
    #: `GET /generation` says 404 for so long.
    generation_lag: float = 0.0
    #: Requests kept in `Simulator.log`; None: all.
    log_kept: int | None = None


_EXP = Model(
    id="google/gemini-flash-1.5-8b-exp",
    supported=("max_tokens", "temperature", "top_p", "stop", "seed", "response_format"),
)
_FLASH = Model(id="google/gemini-2.5-flash", prompt=3e-7, completion=2.5e-6, created=1_750_172_488)

_OTHER = Model(id="gemma-4-31b-it")

PROFILES: dict[str, Knobs] = {
    "openrouter-2024-exp": Knobs(
        era="2024",
        models=(
            _EXP,
            Model(id="google/gemini-flash-1.5-8b", prompt=3.75e-8, completion=1.5e-7),
            Model(id="google/gemini-flash-1.5", prompt=7.5e-8, completion=3e-7),
        ),
        needs_key=True,
        endpoint_rpm=15,
        endpoint_rpd=80,
        upstream_quiet=180.0,
        rerouted_to="google/gemini-flash-1.5-8b",
        generation_lag=0.5,
    ),
    "openrouter-2026-free": Knobs(
        models=(
            Model(id="google/gemma-4-31b-it:free", context=262_144, created=1_775_000_000),
            Model(id="nvidia/nemotron-nano-12b-v2-vl:free", context=128_000, provider="Nvidia"),
            Model(id="meta/llama-text:free", inputs=("text",), provider="Together"),
            Model(id="google/gemma-4-31b-it", prompt=1.4e-7, completion=4e-7, context=262_144),
            _FLASH,
        ),
        needs_key=True,
        rpm=20,
        rpd=50,
        limits_on="free",
        upstream_quiet=600.0,
        rerouted_to="google/gemma-4-31b-it",
        tokens="tiles768",
        generation_lag=0.5,
    ),
    "openrouter-paid": Knobs(
        models=(_FLASH, Model(id="google/gemini-2.5-flash-lite", prompt=1e-7, completion=4e-7)),
        needs_key=True,
        free_tier=False,
        balance_usd=10.0,
        rerouted_to="google/gemini-2.5-flash",
        tokens="tiles768",
        generation_lag=0.5,
    ),
    "google": Knobs(
        service="google",
        models=(
            Model(id="gemini-1.5-flash-8b"),
            Model(id="gemini-2.5-flash-lite", max_output=65_536),
        ),
        needs_key=True,
        endpoint_rpm=15,
        endpoint_rpd=500,
        endpoint_tpm=250_000,
        day_zone="America/Los_Angeles",
        fetches_urls=False,
        tokens="tiles",
    ),
    "litellm": Knobs(
        service="litellm",
        models=(Model(id="gemini-flash"), Model(id="gpt-4o-mini", prompt=1.5e-7)),
        needs_key=True,
        rpm=60,
        rate_headers="http",
        retry_after=True,
        drops_empty_choices=True,
    ),
    "vllm": Knobs(
        service="vllm",
        models=(Model(id="Qwen/Qwen2-VL-7B-Instruct", context=32_768, provider="vllm"),),
        slots=8,
        max_images=8,
    ),
    "ollama": Knobs(
        service="ollama",
        models=(Model(id="llama3.2-vision:latest", context=131_072, provider="library"),),
        slots=1,
        queue=512,
        fetches_urls=False,
        strict_mime=False,
    ),
    "openai": Knobs(service="openai", models=(_OTHER,), needs_key=True),
    "groq": Knobs(
        service="groq",
        models=(Model(id="qwen/qwen3.6-27b"),),
        needs_key=True,
        endpoint_rpm=30,
        endpoint_rpd=1000,
        endpoint_tpm=8000,
        window="bucket",
        day_window="bucket",
        max_images=5,
        max_body=4_000_000,
    ),
    "mistral": Knobs(
        service="mistral", models=(_OTHER,), needs_key=True, rpm=60, window="sliding", max_images=8
    ),
    "cerebras": Knobs(
        service="cerebras",
        models=(Model(id="gemma-4-31b"),),
        needs_key=True,
        endpoint_rpm=5,
        endpoint_rpd=2400,
        fetches_urls=False,
        mimes=("image/jpeg", "image/png"),
        max_images=5,
        max_body=10_000_000,
    ),
    "nvidia": Knobs(
        service="nvidia",
        models=(Model(id="google/gemma-4-31b-it"),),
        needs_key=True,
        endpoint_rpm=25,
        window="sliding",
    ),
    "huggingface": Knobs(service="huggingface", models=(_OTHER,), needs_key=True),
    "embedded": Knobs(
        models=(
            Model(
                id="embedded/pixels",
                supported=("max_tokens", "temperature", "response_format", "structured_outputs"),
                provider="Embedded",
            ),
        ),
        rpm=300,
        log_kept=1000,
    ),
}
