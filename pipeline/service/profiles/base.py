"""What one service is: where, which key, which fields, which image forms, which limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipeline.model import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """The most that one request may hold; None: not documented."""

    count: int | None = None
    #: Of all images together, as they are before base64.
    raw_bytes: int | None = None
    #: Of the longer side.
    side: int | None = None
    pixels: int | None = None
    #: What is taken. JPEG is what this program sends, so a service without it is none.
    formats: tuple[str, ...] = ("jpeg", "png", "webp")

    def longest(self, side: int) -> int:
        """The longer side of a picture that is taken, at most the one that is asked for."""
        root = None if self.pixels is None else math.isqrt(self.pixels)
        return min(most for most in (side, self.side, root) if most is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of service. A new one is one file and one line in `PROFILES`."""

    name: str
    base_url: str | None
    #: Environment variable of the key; None: no key needed.
    key_env: str | None
    #: Does `/models` tell prices, and replies their cost?
    tells_prices: bool = False
    #: May images travel as http(s) URLs that the service fetches itself?
    takes_urls: bool = False
    #: OpenRouter's own fields (models, provider, reasoning) and headers.
    openrouter_fields: bool = False
    #: `response_format` with a JSON schema: always, by the model's supported_parameters, never.
    json_schema: Literal["always", "listed", "never"] = "listed"
    #: Does `/key` tell about the key?
    has_key_call: bool = False
    #: Limits that hold unless something better is known.
    limits: Limits = field(default_factory=Limits)
    images: ImageLimits = field(default_factory=ImageLimits)
    #: Fields of the request that the service refuses; they are left out.
    refuses: frozenset[str] = frozenset()
    #: Ending of `x-ratelimit-{limit,remaining,reset}-…` -> seconds of the window that it tells of.
    windows: Mapping[str, float] = field(default_factory=dict)
    #: What `service_tier: flex` is here: half the price, more requests at the full price, or not
    #: known to the service.
    flex: Literal["half", "full"] | None = None
    #: May the terms of the free tier train on what is sent? None: not known.
    trains: bool | None = None
    #: The service's name of a model -> that of its family, where `family` does not see it.
    aliases: Mapping[str, str] = field(default_factory=dict)
    #: Is the address a user's own, so that `endpoint.base_url` must say it?
    own_address: bool = False
    #: Where these facts stand and when they were read; numbers that nobody documents are `a guess`.
    source: str = ""
    #: Path below the base URL that lists the models; None: none.
    models_path: str | None = "/models"
    #: Path below the base URL that tells prices and limits of the models; None: none.
    info_path: str | None = None
    #: Is the service started with the run and ended with it? Nobody else counts its requests.
    own: bool = False
