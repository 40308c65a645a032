"""Every service that can be simulated."""

from __future__ import annotations

from pipeline.simulator.dialects.base import Dialect
from pipeline.simulator.dialects.google import Google
from pipeline.simulator.dialects.litellm import LiteLLM
from pipeline.simulator.dialects.ollama import Ollama
from pipeline.simulator.dialects.openrouter import OpenRouter
from pipeline.simulator.dialects.others import Cerebras, Groq, HuggingFace, Mistral, Nvidia
from pipeline.simulator.dialects.vllm import VLLM
from pipeline.simulator.knobs import Service

DIALECTS: dict[Service, Dialect] = {
    "openrouter": OpenRouter(),
    "google": Google(),
    "litellm": LiteLLM(),
    "vllm": VLLM(),
    "ollama": Ollama(),
    "openai": Dialect(),
    "groq": Groq(),
    "mistral": Mistral(),
    "cerebras": Cerebras(),
    "nvidia": Nvidia(),
    "huggingface": HuggingFace(),
}
