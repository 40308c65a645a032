"""Hugging Face's router (https://router.huggingface.co): many providers, money a calendar month.

The included credits of a month are small; a 402 says that they are used up.
"""

from pipeline.model import Limits
from pipeline.service.profiles.base import Profile

HUGGINGFACE = Profile(
    name="huggingface",
    base_url="https://router.huggingface.co/v1",
    key_env="HF_TOKEN",
    json_schema="never",  # by the provider behind it
    limits=Limits(window="month"),
    source="huggingface.co/docs/inference-providers, 2026-10",
)
