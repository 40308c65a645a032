"""What one service is: where, which key, which fields, which image forms, which limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pipeline.model import Limits


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
    #: Path below the base URL that lists the models; None: none.
    models_path: str | None = "/models"
    #: Path below the base URL that tells prices and limits of the models; None: none.
    info_path: str | None = None
    #: Is the service started with the run and ended with it? Nobody else counts its requests.
    own: bool = False
