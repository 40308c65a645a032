"""Every service that can be simulated."""

from __future__ import annotations

from pipeline.sim.dialects.base import Dialect
from pipeline.sim.dialects.google import Google
from pipeline.sim.dialects.litellm import LiteLLM
from pipeline.sim.dialects.ollama import Ollama
from pipeline.sim.dialects.openrouter import OpenRouter
from pipeline.sim.dialects.vllm import VLLM
from pipeline.sim.knobs import Service

DIALECTS: dict[Service, Dialect] = {
    "openrouter": OpenRouter(),
    "google": Google(),
    "litellm": LiteLLM(),
    "vllm": VLLM(),
    "ollama": Ollama(),
}
