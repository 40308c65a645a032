"""Fireworks (https://docs.fireworks.ai): paid; WebP is not in its list of formats."""

from pipeline.service.profiles.base import ImageLimits, Profile

FIREWORKS = Profile(
    name="fireworks",
    base_url="https://api.fireworks.ai/inference/v1",
    key_env="FIREWORKS_API_KEY",
    json_schema="always",
    images=ImageLimits(
        count=30, raw_bytes=7_500_000, formats=("png", "jpeg", "gif", "bmp", "tiff", "ppm")
    ),
    source="docs.fireworks.ai, vision page (30 images, base64 below 10 MB in all; URLs fetched "
    "within 1.5 s, so bytes are sent), 2026-10",
)
