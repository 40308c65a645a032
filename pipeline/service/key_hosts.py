"""Whose key a variable's name says it is: such a key goes to another host only when told so.

A job file may come from a stranger, and `base_url` is a line of it.
"""

from __future__ import annotations

import re

from pipeline.service.address import host_of, is_loopback
from pipeline.service.profiles import PROFILES

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

    This machine may have every key: what listens there is the user's.
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


__all__ = ["foreign_host"]
