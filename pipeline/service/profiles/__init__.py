"""The services: one file each, one line each in `PROFILES`."""

from __future__ import annotations

from pipeline.service.profiles.base import Profile
from pipeline.service.profiles.embedded import EMBEDDED
from pipeline.service.profiles.google import GOOGLE
from pipeline.service.profiles.litellm import LITELLM
from pipeline.service.profiles.llamacpp import LLAMACPP
from pipeline.service.profiles.ollama import OLLAMA
from pipeline.service.profiles.openai import OPENAI
from pipeline.service.profiles.openrouter import OPENROUTER
from pipeline.service.profiles.vllm import VLLM

PROFILES: dict[str, Profile] = {
    "embedded": EMBEDDED,
    "openrouter": OPENROUTER,
    "google": GOOGLE,
    "litellm": LITELLM,
    "vllm": VLLM,
    "ollama": OLLAMA,
    "llamacpp": LLAMACPP,
    "openai": OPENAI,
}

__all__ = ["PROFILES", "Profile"]
