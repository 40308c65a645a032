"""Ollama Cloud (https://ollama.com): two windows of use, no structured outputs.

A session of five hours ends when the epoch's seconds are a multiple of 18,000; the week begins on
Monday, UTC. How much a window holds is not told: the refusal says which of the two is spent.
"""

from pipeline.model import Limits
from pipeline.service.profiles.base import Profile

OLLAMA_CLOUD = Profile(
    name="ollama-cloud",
    base_url="https://ollama.com/v1",
    key_env="OLLAMA_API_KEY",
    json_schema="never",
    aliases={"gemma4:31b": "gemma-4-31b", "gemma4:26b": "gemma-4-26b-a4b"},
    limits=Limits(window="5h"),
    source="docs.ollama.com/cloud; windows by reports of August 2026",
)
