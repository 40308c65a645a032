"""The services: one file each, one line each in `PROFILES`."""

from __future__ import annotations

from pipeline.api.profiles.base import Profile
from pipeline.api.profiles.embedded import EMBEDDED
from pipeline.api.profiles.google import GOOGLE
from pipeline.api.profiles.litellm import LITELLM
from pipeline.api.profiles.ollama import OLLAMA
from pipeline.api.profiles.openai import OPENAI
from pipeline.api.profiles.openrouter import OPENROUTER
from pipeline.api.profiles.vllm import VLLM

PROFILES: dict[str, Profile] = {
    "embedded": EMBEDDED,
    "openrouter": OPENROUTER,
    "google": GOOGLE,
    "litellm": LITELLM,
    "vllm": VLLM,
    "ollama": OLLAMA,
    "openai": OPENAI,
}

__all__ = ["PROFILES", "Profile"]
