"""The services: where each is, which key it takes, which fields, which image forms, which limits.

One entry of `PROFILES` each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.model import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """The most that one request may hold; None: not documented."""

    count: int | None = None
    #: Of all images together, as they are before base64.
    raw_bytes: int | None = None
    #: Of the longer side.
    side: int | None = None
    pixels: int | None = None

    def longest(self, side: int) -> int:
        """The longer side of a picture that is taken, at most the one that is asked for."""
        root = None if self.pixels is None else math.isqrt(self.pixels)
        return min(most for most in (side, self.side, root) if most is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of service."""

    name: str
    base_url: str | None
    #: Environment variable of the key; None: no key needed.
    key_env: str | None
    #: Does `/models` tell prices, and replies their cost?
    tells_prices: bool = False
    #: May images travel as http(s) URLs that the service fetches itself?
    takes_urls: bool = False
    #: OpenRouter's own fields (models, provider, reasoning) and headers.
    openrouter_fields: bool = False
    #: `response_format` with a JSON schema: always, by the model's supported_parameters, never.
    json_schema: Literal["always", "listed", "never"] = "listed"
    #: Does `/key` tell about the key?
    has_key_call: bool = False
    #: Limits that hold unless something better is known.
    limits: Limits = field(default_factory=Limits)
    images: ImageLimits = field(default_factory=ImageLimits)
    #: Fields of the request that the service refuses; they are left out.
    refuses: frozenset[str] = frozenset()
    #: Ending of `x-ratelimit-{limit,remaining,reset}-…` -> seconds of the window that it tells of.
    windows: Mapping[str, float] = field(default_factory=dict)
    #: What `service_tier: flex` is here: half the price, more requests at the full price, or not
    #: known to the service.
    flex: Literal["half", "full"] | None = None
    #: May the terms of the free tier train on what is sent? None: not known.
    trains: bool | None = None
    #: The service's name of a model -> that of its family, where `family` does not see it.
    aliases: Mapping[str, str] = field(default_factory=dict)
    #: Is the address a user's own, so that `endpoint.base_url` must say it?
    own_address: bool = False
    #: Where these facts stand and when they were read; numbers that nobody documents are `a guess`.
    source: str = ""
    #: Path below the base URL that lists the models; None: none.
    models_path: str | None = "/models"
    #: Path below the base URL that tells prices and limits of the models; None: none.
    info_path: str | None = None
    #: Is the service started with the run and ended with it? Nobody else counts its requests.
    own: bool = False


_GOOGLE = "a guess to start with: Google tells its limits when it refuses"
_GROQ = "Groq's free plan as reported in August 2026"
_MISTRAL = "a guess: one request a second; the admin page has the number"

_PROFILES = (
    # The embedded describer: our own simulator on a loopback port inside this process.
    # It looks at the pixels and says what it measures; its model id stays in every record, so that
    # nobody mistakes a demo caption for a model's.
    Profile(
        name="embedded",
        base_url=None,
        key_env=None,
        json_schema="always",
        own=True,
        limits=Limits(
            requests_per_minute=300, sources={"requests_per_minute": "the embedded service's own"}
        ),
    ),
    # OpenRouter (https://openrouter.ai/docs): one key, many models, prices told, free slugs limited.
    Profile(
        name="openrouter",
        base_url="https://openrouter.ai/api/v1",
        key_env="OPENROUTER_API_KEY",
        tells_prices=True,
        openrouter_fields=True,
        has_key_call=True,
        flex="half",
        source="openrouter.ai/docs, 2026-08",
    ),
    # Google's own endpoint in its OpenAI-compatible form.
    # It takes data URIs only and answers 400 to fields it does not know. Limits are a project's and a
    # model's; days end at midnight Pacific (ai.google.dev/gemini-api/docs/rate-limits). Free numbers stand
    # in the account's page only, differ by model (20 to 14,400 a day were reported in 2026) and change:
    # the ones here are a careful start, and a refusal's `quotaValue` replaces them.
    Profile(
        name="google",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        key_env="GEMINI_API_KEY",
        json_schema="always",
        images=ImageLimits(raw_bytes=14_000_000, side=8000),
        flex="half",
        trains=True,  # the free tier, outside the EEA, Switzerland and the UK
        source="ai.google.dev/gemini-api/docs (flex: documented for its own form only), 2026-10",
        limits=Limits(
            requests_per_minute=15,
            tokens_per_minute=250_000,
            learnt=True,
            reset_zone="America/Los_Angeles",
            day_scope="model",
            sources=dict.fromkeys(("requests_per_minute", "tokens_per_minute"), _GOOGLE),
        ),
    ),
    # A LiteLLM proxy: it has its own limits and keys, downloads image URLs, maps what it can.
    Profile(
        name="litellm",
        base_url="http://127.0.0.1:4000/v1",
        key_env="LITELLM_API_KEY",
        takes_urls=True,
        info_path="/model/info",
        json_schema="always",
    ),
    # A vLLM server: no limits, it queues; guided decoding enforces a schema.
    Profile(
        name="vllm",
        base_url="http://127.0.0.1:8000/v1",
        key_env=None,
        takes_urls=True,
        json_schema="always",
    ),
    # Ollama's `/v1`: no key, data URIs of jpeg, png and webp only.
    Profile(
        name="ollama",
        base_url="http://127.0.0.1:11434/v1",
        key_env=None,
        json_schema="always",
    ),
    # llama.cpp's server in a child process: a model of one's own, without a server to look after.
    # `endpoint.model` is the path of a .gguf file and `endpoint.mmproj` that of its vision projector; the
    # extra `llama` brings the server (`service/llamacpp/`).
    Profile(
        name="llamacpp",
        base_url=None,
        key_env=None,
        json_schema="always",
        own=True,
    ),
    # Any other OpenAI-compatible service; `endpoint.base_url` says where.
    # Whether it fetches image URLs is not known, so `images.send: auto` means bytes.
    Profile(
        name="openai",
        base_url="https://api.openai.com/v1",
        key_env="OPENAI_API_KEY",
        json_schema="always",
        # No `windows`: many servers and gateways are reached by this profile, and what their headers count
        # is a minute here, three seconds there; their refusals tell it.
        images=ImageLimits(count=500, raw_bytes=37_000_000),
        flex="half",
        source="platform.openai.com/docs, vision, rate limits and flex pages, 2026-10",
    ),
    # Groq (https://console.groq.com/docs): limits by organization and model, as continuous buckets.
    # `-requests` in its headers is the day and `-tokens` the minute. There is no midnight: the wait of
    # its refusals is (used + asked - limit) / limit x window, so one request comes back each
    # window / limit seconds. `service_tier: flex` has more requests for the same price, and answers 498
    # when it is full.
    Profile(
        name="groq",
        base_url="https://api.groq.com/openai/v1",
        key_env="GROQ_API_KEY",
        json_schema="never",  # some models only
        images=ImageLimits(count=5, raw_bytes=3_000_000, pixels=33_000_000),
        windows={"requests": 86_400.0, "tokens": 60.0},
        flex="full",
        trains=False,
        limits=Limits(
            requests_per_minute=30,
            requests_per_day=1000,
            tokens_per_minute=8000,
            window="bucket",
            day_scope="model",
            sources={
                "requests_per_minute": _GROQ,
                "requests_per_day": _GROQ,
                "tokens_per_minute": _GROQ,
            },
        ),
        source="console.groq.com/docs/vision (base64 4 MB, 5 images, 33 megapixels), 2026-10",
    ),
    # Mistral (https://docs.mistral.ai): limits by organization, tokens a calendar month.
    # Its numbers stand in the admin page only; `finish_reason: model_length` is the context's end; it
    # refuses `stream_options`.
    Profile(
        name="mistral",
        base_url="https://api.mistral.ai/v1",
        key_env="MISTRAL_API_KEY",
        json_schema="always",
        takes_urls=True,
        images=ImageLimits(count=8, raw_bytes=10_000_000, side=8000),
        refuses=frozenset({"stream_options"}),
        trains=True,  # unless opted out, on the free plan
        limits=Limits(
            requests_per_minute=60,
            window="month",
            learnt=True,
            sources={"requests_per_minute": _MISTRAL},
        ),
        source="docs.mistral.ai/capabilities/vision (8 images); 15 MB and 8,000 px measured by others",
    ),
    # Cerebras (https://inference-docs.cerebras.ai): base64 PNG and JPEG only, fixed clock windows.
    # It reserves the input and `max_completion_tokens` of a request against its limits, and answers 400
    # to the penalties, `logit_bias`, `parallel_tool_calls` and `service_tier`.
    Profile(
        name="cerebras",
        base_url="https://api.cerebras.ai/v1",
        key_env="CEREBRAS_API_KEY",
        json_schema="always",
        images=ImageLimits(count=5, raw_bytes=7_500_000),
        refuses=frozenset(
            {
                "frequency_penalty",
                "presence_penalty",
                "logit_bias",
                "parallel_tool_calls",
                "service_tier",
            }
        ),
        windows={
            "requests-minute": 60.0,
            "requests-hour": 3600.0,
            "requests-day": 86_400.0,
            "tokens-minute": 60.0,
            "tokens-hour": 3600.0,
            "tokens-day": 86_400.0,
        },
        limits=Limits(day_scope="model"),
        source="inference-docs.cerebras.ai, image page (5 images, 10 MB in all), 2026-10",
    ),
    # NVIDIA's API catalogue (https://build.nvidia.com): trial use, limits that are never told.
    # About 40 requests a minute are reported, less under load; a refusal is `{"status": 429}` without a
    # time. So the rate is learnt: halved by a refusal, a tenth regained in each calm ten minutes.
    Profile(
        name="nvidia",
        base_url="https://integrate.api.nvidia.com/v1",
        key_env="NVIDIA_API_KEY",
        json_schema="never",  # some models only, by a field of its own
        images=ImageLimits(count=1, raw_bytes=130_000),  # a guess: 180 kB inline on older models
        limits=Limits(
            requests_per_minute=40,
            learnt=True,
            day_scope="model",
            sources={"requests_per_minute": "a guess: about 40 is reported, learnt from refusals"},
        ),
        source="reports of 2026 (no documentation of limits)",
    ),
    # Together (https://docs.together.ai): paid; rates that grow with steady traffic.
    # An image costs 1,601 tokens for each tile of 560 px, at most four: `images.max_side: 559` is a
    # quarter of the price.
    Profile(
        name="together",
        base_url="https://api.together.xyz/v1",
        key_env="TOGETHER_API_KEY",
        json_schema="never",  # some models only
        takes_urls=True,
        source="docs.together.ai, vision and rate limit pages, 2026-10",
    ),
    # Fireworks (https://docs.fireworks.ai): paid; WebP is not in its list of formats.
    Profile(
        name="fireworks",
        base_url="https://api.fireworks.ai/inference/v1",
        key_env="FIREWORKS_API_KEY",
        json_schema="always",
        images=ImageLimits(count=30, raw_bytes=7_500_000),
        source="docs.fireworks.ai, vision page (30 images, base64 below 10 MB in all; URLs fetched "
        "within 1.5 s, so bytes are sent), 2026-10",
    ),
    # Hugging Face's router (https://router.huggingface.co): many providers, money a calendar month.
    # The included credits of a month are small; a 402 says that they are used up.
    Profile(
        name="huggingface",
        base_url="https://router.huggingface.co/v1",
        key_env="HF_TOKEN",
        json_schema="never",  # by the provider behind it
        limits=Limits(window="month"),
        source="huggingface.co/docs/inference-providers, 2026-10",
    ),
    # Azure OpenAI's v1 API: `endpoint.base_url` is `https://RESOURCE.openai.azure.com/openai/v1`.
    # The model is the name of a deployment, and its limits are what the deployment was given.
    Profile(
        name="azure",
        base_url=None,
        key_env="AZURE_OPENAI_API_KEY",
        json_schema="always",
        takes_urls=True,
        images=ImageLimits(count=50),
        windows={"requests": 60.0, "tokens": 60.0},
        flex="half",
        trains=False,
        own_address=True,
        source="learn.microsoft.com/azure, OpenAI v1 API; flex is in preview, 2026-10",
    ),
    # Ollama Cloud (https://ollama.com): two windows of use, no structured outputs.
    # A session of five hours ends when the epoch's seconds are a multiple of 18,000; the week begins on
    # Monday, UTC. How much a window holds is not told: the refusal says which of the two is spent.
    Profile(
        name="ollama-cloud",
        base_url="https://ollama.com/v1",
        key_env="OLLAMA_API_KEY",
        json_schema="never",
        aliases={"gemma4:31b": "gemma-4-31b", "gemma4:26b": "gemma-4-26b-a4b"},
        limits=Limits(window="5h"),
        source="docs.ollama.com/cloud; windows by reports of August 2026",
    ),
)
PROFILES: dict[str, Profile] = {profile.name: profile for profile in _PROFILES}
