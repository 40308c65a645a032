"""The services: one file each, one line each in `PROFILES`."""

from __future__ import annotations

from pipeline.service.profiles.azure import AZURE
from pipeline.service.profiles.base import Profile
from pipeline.service.profiles.cerebras import CEREBRAS
from pipeline.service.profiles.embedded import EMBEDDED
from pipeline.service.profiles.fireworks import FIREWORKS
from pipeline.service.profiles.google import GOOGLE
from pipeline.service.profiles.groq import GROQ
from pipeline.service.profiles.huggingface import HUGGINGFACE
from pipeline.service.profiles.litellm import LITELLM
from pipeline.service.profiles.llamacpp import LLAMACPP
from pipeline.service.profiles.mistral import MISTRAL
from pipeline.service.profiles.nvidia import NVIDIA
from pipeline.service.profiles.ollama import OLLAMA
from pipeline.service.profiles.ollama_cloud import OLLAMA_CLOUD
from pipeline.service.profiles.openai import OPENAI
from pipeline.service.profiles.openrouter import OPENROUTER
from pipeline.service.profiles.together import TOGETHER
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
    "groq": GROQ,
    "mistral": MISTRAL,
    "cerebras": CEREBRAS,
    "nvidia": NVIDIA,
    "together": TOGETHER,
    "fireworks": FIREWORKS,
    "huggingface": HUGGINGFACE,
    "azure": AZURE,
    "ollama-cloud": OLLAMA_CLOUD,
}

__all__ = ["PROFILES", "Profile"]
