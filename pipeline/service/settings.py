"""The job file's `endpoint` section."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.settings import Duration, Settings, Size, section

#: Longest body of an answer that is read; a caption answer has a few KB, `/models` about 1 MB.
MAX_BODY = 32 * 2**20

#: `endpoint.model` that lets the program choose.
AUTO = "auto:free-vision"

#: Seconds that an answer of the flex tier may take (developers.openai.com, flex processing).
FLEX_TIMEOUT = 900.0

#: What the program writes into a request's body itself -> the key that says it.
_OWN = {"model": "endpoint.model", "models": "endpoint.fallback_models", "messages": "prompt"}


def _body(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse what would make the request another one than was looked at and reckoned with."""
    for name in value:
        if name in _OWN:
            raise ValueError(f"{name} cannot stand here; use {_OWN[name]}")
    tokens = value.get("max_tokens")
    if tokens is not None and (type(tokens) is not int or tokens < 1):
        raise ValueError("max_tokens must be an integer of at least 1")
    return value


Body = Annotated[dict[str, Any], AfterValidator(_body)]

#: Sampling parameters that hold unless the job says otherwise.
PARAMS: dict[str, Any] = {"max_tokens": 300, "temperature": 0.2}


def _merged(value: dict[str, Any]) -> dict[str, Any]:
    """The defaults with these over them, key by key; null removes one.

    `max_completion_tokens` is the newer name of `max_tokens`, and services refuse both together.
    """
    defaults = dict(PARAMS)
    if value.get("max_completion_tokens") is not None:
        del defaults["max_tokens"]
    return {name: setting for name, setting in {**defaults, **value}.items() if setting is not None}


Params = Annotated[Body, AfterValidator(_merged)]


def _model(value: str) -> str:
    if value.startswith("auto:") and value != AUTO:
        raise ValueError(f"write a model id, or {AUTO}")
    return value


ProfileName = Literal[
    "embedded", "openrouter", "google", "litellm", "vllm", "ollama", "llamacpp", "openai",
    "groq", "mistral", "cerebras", "nvidia", "together", "fireworks", "huggingface", "azure",
    "ollama-cloud",
]  # fmt: skip


class AppSettings(Settings):
    url: str | None = None
    """Sent as HTTP-Referer."""
    title: str | None = None
    """Sent as X-OpenRouter-Title and X-Title."""


class EndpointSettings(Settings):
    profile: ProfileName = "openrouter"
    """Which service this is."""
    base_url: str | None = None
    """Where it is, when not at the profile's own address."""
    model: Annotated[str, AfterValidator(_model)] = Field(
        default="google/gemini-flash-1.5-8b-exp", min_length=1
    )
    """Model id, or auto:free-vision; llamacpp: path of a .gguf file."""
    mmproj: str | None = None
    """llamacpp: path of the model's vision projector."""
    fallback_models: list[str] = Field(default=[], max_length=2)
    """OpenRouter: tried in order when the model fails; at most 3 in all."""
    allow_paid: bool = False
    """May a request cost money? For profiles that tell prices."""
    api_key_env: str | None = Field(
        default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", examples=["OPENROUTER_API_KEY"]
    )
    """Name of the environment variable that holds the key; default: the profile's own."""
    key_host: str | None = Field(default=None, examples=["llm.example.com"])
    """Host that may have a key which by its variable's name is another service's."""
    app: AppSettings = section()
    """How OpenRouter lists the calling program."""
    params: Params = PARAMS
    """Sampling parameters of the request, over the defaults key by key; null removes one."""
    provider: dict[str, Any] = {}
    """OpenRouter's provider routing, passed on."""
    extra_body: Body = {}
    """Further body fields, passed on untouched."""
    service_tier: Literal["flex"] | None = None
    """flex: about half the price where the service has it, and slower."""
    timeout: Duration = Field(default=120.0, gt=0)
    """Seconds, in total, for one request; 900 at least, and by default, with service_tier: flex."""
    patience: Duration = Field(default=900.0, ge=0)
    """Longest outage to wait out."""
    max_reply: Size = Field(default=1_000_000, ge=1, le=MAX_BODY)
    """Longest caption that is taken; a longer one fails as too_long, its raw answer is kept."""
    proxy: str | None = None
    """Proxy for the API."""
    quota_group: str | None = Field(default=None, min_length=1, max_length=100)
    """Name of a quota that several keys, endpoints or jobs share: a project, an organization, an address."""
    private: bool = False
    """Refuse (78) a service whose free tier may train on what is sent?"""

    @model_validator(mode="after")
    def _slow(self) -> Self:
        """Flex answers take up to a quarter of an hour (OpenAI's page on it)."""
        if self.service_tier == "flex" and "timeout" not in self.model_fields_set:
            self.__dict__["timeout"] = FLEX_TIMEOUT
        if self.service_tier == "flex" and self.timeout < FLEX_TIMEOUT:
            raise ValueError(
                f"timeout: service_tier: flex answers in up to {FLEX_TIMEOUT:g} seconds; write at least that"
            )
        return self

    @property
    def asks_form(self) -> bool:
        """Does the job itself say in which form answers come?"""
        return "response_format" in self.params or "response_format" in self.extra_body
