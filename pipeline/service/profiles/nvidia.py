"""NVIDIA's API catalogue (https://build.nvidia.com): trial use, limits that are never told.

About 40 requests a minute are reported, less under load; a refusal is `{"status": 429}` without a
time. So the rate is learnt: halved by a refusal, a tenth regained in each calm ten minutes.
"""

from pipeline.model import Limits
from pipeline.service.profiles.base import ImageLimits, Profile

NVIDIA = Profile(
    name="nvidia",
    base_url="https://integrate.api.nvidia.com/v1",
    key_env="NVIDIA_API_KEY",
    json_schema="never",  # some models only, by a field of its own
    images=ImageLimits(count=1, raw_bytes=130_000),  # a guess: 180 kB inline on older models
    limits=Limits(
        requests_per_minute=40,
        learnt=True,
        day_scope="model",
        sources={"requests_per_minute": "a guess: about 40 is reported, learnt from refusals"},
    ),
    source="reports of 2026 (no documentation of limits)",
)
