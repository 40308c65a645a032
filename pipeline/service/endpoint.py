"""Where requests go and with which key. The key lives in a `Secret` and nowhere else."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pipeline.errors import JobError, KeyTrouble
from pipeline.service.address import canonical, host_of, is_loopback
from pipeline.service.profiles import PROFILES, Profile
from pipeline.service.settings import EndpointSettings

#: Variable name (from its start) -> the domains that its key is for; none: no model service's.
_KNOWN: dict[str, tuple[str, ...]] = {
    "ANTHROPIC_": ("anthropic.com",),
    "AWS_": ("amazonaws.com",),
    "AZURE_": ("azure.com",),
    "CEREBRAS_": ("cerebras.ai",),
    "COHERE_": ("cohere.ai", "cohere.com"),
    "DEEPSEEK_": ("deepseek.com",),
    "FIREWORKS_": ("fireworks.ai",),
    "GEMINI_": ("googleapis.com",),
    "(GH|GITHUB)_": ("github.ai", "github.com", "githubcopilot.com", "azure.com"),
    "GITLAB_": ("gitlab.com",),
    "GOOGLE_": ("googleapis.com",),
    "GROQ_": ("groq.com",),
    "(HF|HUGGING_?FACE)_": ("huggingface.co",),
    "MISTRAL_": ("mistral.ai",),
    "(NVIDIA|NGC)_": ("nvidia.com",),
    "OPENAI_": ("openai.com",),
    "OPENROUTER_": ("openrouter.ai",),
    "REPLICATE_": ("replicate.com",),
    "TOGETHER_": ("together.ai", "together.xyz"),
    "XAI_": ("x.ai",),
    "(DOCKER|KAGGLE|NPM|PYPI|SLACK|STRIPE|TWILIO|WANDB)_": (),
}


def foreign_host(variable: str, base_url: str, key_host: str | None) -> str | None:
    """What is wrong with sending the key of this variable to this address; None: nothing is.

    A job file may come from a stranger, and `base_url` is a line of it. This machine may have every
    key: what listens there is the user's.
    """
    host = host_of(base_url)
    if is_loopback(host) or (key_host is not None and host_of(f"//{key_host}") == host):
        return None
    for profile in PROFILES.values():
        if variable == profile.key_env and profile.base_url is not None:
            own = host_of(profile.base_url)
            if host == own or is_loopback(own):
                return None
    for name, domains in _KNOWN.items():
        if re.match(name, variable, re.IGNORECASE):
            if any(host == domain or host.endswith(f".{domain}") for domain in domains):
                return None
            whose = f"a key of {domains[0]}" if domains else "a secret of another service"
            return (
                f"{variable} is by its name {whose}, and would go to {host}: name another variable "
                f"in endpoint.api_key_env, or write endpoint.key_host: {host} if that is meant"
            )
    return None


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A string that does not show itself; `reveal` only where the header is made."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A service, an address, a model, and the key."""

    profile: Profile
    base_url: str
    settings: EndpointSettings
    key: Secret | None = field(default=None)
    #: Was the model chosen by this program (`auto:…`), so that it may choose again?
    chosen: bool = False

    @property
    def account(self) -> str:
        """Names the account in the quota ledger without telling the key: 32 hex."""
        return self._named(canonical(self.base_url))

    @property
    def former_account(self) -> str:
        """Its name in ledgers of earlier versions: by the address as it is written."""
        return self._named(self.base_url)

    def _named(self, address: str) -> str:
        if (group := self.settings.quota_group) is not None:
            return hashlib.sha256(f"group\n{group}".encode()).hexdigest()[:32]
        key = self.key.reveal() if self.key is not None else ""
        return hashlib.sha256(f"{address}\n{key}".encode()).hexdigest()[:32]


def _refuse_foreign_settings(settings: EndpointSettings, profile: Profile) -> None:
    """JobError (78) for a setting that the profile has no meaning for."""
    if not profile.openrouter_fields:
        for name in ("fallback_models", "provider"):
            if getattr(settings, name):
                raise JobError(
                    f"endpoint.{name}: only OpenRouter has it, not profile {profile.name}"
                )
    if settings.service_tier is not None and profile.flex is None:
        raise JobError(
            f"endpoint.service_tier: profile {profile.name} is not known to have a flex tier; take it out"
        )
    if settings.private and profile.trains:
        raise JobError(
            f"endpoint.private: {profile.name} may train on what is sent to its free tier; take "
            "another service, or private: false where your plan rules that out"
        )
    if settings.mmproj and profile.name != "llamacpp":
        raise JobError(f"endpoint.mmproj: only profile llamacpp has it, not {profile.name}")
    if settings.base_url and profile.name == "llamacpp":
        raise JobError(
            "endpoint.base_url: profile llamacpp starts a server of its own; for one that is "
            "running take profile openai"
        )


def endpoint_of(settings: EndpointSettings, environ: Mapping[str, str]) -> Endpoint:
    """Resolve the job's endpoint.

    KeyTrouble (77) when a key is needed and its variable is not set; JobError (78) when a key
    would travel in the clear.
    """
    profile = PROFILES[settings.profile]
    if profile.own_address and not settings.base_url:
        raise JobError(f"endpoint.base_url: profile {profile.name} has no address of its own")
    base = (settings.base_url or profile.base_url or "http://127.0.0.1:0/api/v1").rstrip("/")
    try:
        parts = urlsplit(base)
        good = parts.scheme in ("http", "https") and parts.port != -1  # reading it checks it
    except ValueError:  # a broken IPv6 address, a port above 65535
        good = False
    if not good or not parts.hostname:
        raise JobError("endpoint.base_url: write http://HOST[:PORT]/… or https://HOST[:PORT]/…")
    if parts.username or parts.password or parts.query:
        raise JobError(
            "endpoint.base_url: no user, password or query here; a key belongs in the environment "
            "(endpoint.api_key_env)"
        )
    _refuse_foreign_settings(settings, profile)
    variable = settings.api_key_env or profile.key_env
    value = environ.get(variable, "").strip() if variable else ""
    local = is_loopback(parts.hostname)
    if variable and not value and (settings.api_key_env or not local):
        raise KeyTrouble(
            f"{variable} is not set: put the {profile.name} key into the environment "
            f"(export {variable}=…) or into a .env file here"
        )
    if value and any(ord(c) < 33 or ord(c) > 126 for c in value):
        raise KeyTrouble(f"{variable}: a key has no spaces or special characters; set it again")
    if value and parts.scheme == "http" and not local:
        raise JobError(f"endpoint.base_url: {base} would send the key unencrypted; use https://")
    if value and variable and (trouble := foreign_host(variable, base, settings.key_host)):
        raise JobError(f"endpoint.base_url: {trouble}")
    return Endpoint(
        profile=profile, base_url=base, settings=settings, key=Secret(value) if value else None
    )
