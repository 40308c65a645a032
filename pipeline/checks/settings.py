"""The job file's `checks` section: what is looked for in captions, and what follows."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from pipeline.settings import Settings, section

Action = Literal["keep", "retry", "fallback", "fail"]


class CheckSettings(Settings):
    action: Action | None = "keep"
    """What follows; null: the check is off."""


class RefusalSettings(Settings):
    action: Literal["retry", "fallback", "fail"] = "fail"
    """What follows; a refusal is never a caption."""


class RepetitionSettings(CheckSettings):
    share: float = Field(default=0.4, gt=0, le=1)
    """Share of the words that repeats what was said before."""


class TooShortSettings(CheckSettings):
    min_words: int = Field(default=3, ge=1)
    """Fewest words (characters of Chinese, Japanese and Thai count as half)."""


class TooLongSettings(CheckSettings):
    max_words: int = Field(default=400, ge=1)
    """Most words."""


def _languages(codes: list[str]) -> list[str]:
    from pipeline.checks.language import SCRIPTS

    for code in codes:
        if code not in SCRIPTS:
            raise ValueError(f"{code!r} is no language that is known: {', '.join(SCRIPTS)}")
    return codes


class LanguageSettings(CheckSettings):
    languages: Annotated[list[str], AfterValidator(_languages)] = []
    """The languages that captions may have, as ISO 639-1 codes; empty: any."""


class SameCaptionSettings(Settings):
    action: Action | None = "keep"
    """keep: a flag in dataset.parquet and exports; the others act when the next run begins."""
    images: int = Field(default=10, ge=2)
    """So many different images with one caption."""


class SecondFormSettings(Settings):
    prompt: str | None = Field(default=None, min_length=1, max_length=100_000)
    """Text of the second question; {prompt} is the first one."""
    params: dict[str, Any] = {}
    """Over endpoint.params, key by key."""
    model: str | None = Field(default=None, min_length=1)
    """Another model of the endpoint."""


class ChecksSettings(Settings):
    truncated: CheckSettings = section()
    """Cut at max_tokens, or without the end of a sentence."""
    refusal: RefusalSettings = section()
    """The model says that it will not or cannot."""
    boilerplate: CheckSettings = section()
    """An opening such as "This image shows"."""
    repetition: RepetitionSettings = section()
    """The same words over and over."""
    too_short: TooShortSettings = section()
    """Hardly a word."""
    too_long: TooLongSettings = section()
    """More than a caption."""
    language: LanguageSettings = section()
    """Another script or language than was asked for."""
    leaked_prompt: CheckSettings = section()
    """Words of the prompt in the answer."""
    instructions: CheckSettings = section()
    """Addresses, or instructions to a model or a reader."""
    markdown: CheckSettings = section()
    """Headings, lists, tables or emphasis where prose was asked for."""
    same_caption: SameCaptionSettings = section()
    """One caption for many different images."""
    retry: SecondFormSettings = section()
    """How the action retry asks, once: the same again, unless something stands here."""

    @property
    def actions(self) -> dict[str, Action]:
        """Check -> what follows, of those that are on."""
        every = {
            name: getattr(getattr(self, name), "action", None) for name in type(self).model_fields
        }
        if not self.language.languages:
            del every["language"]
        return {name: action for name, action in every.items() if action is not None}


def checks_trouble(checks: ChecksSettings, fallbacks: list[str]) -> tuple[tuple[str, ...], str]:
    """(place, what is wrong) with the checks; nothing is where the words are empty."""
    for name in ChecksSettings.model_fields:
        if getattr(getattr(checks, name), "action", None) == "fallback" and not fallbacks:
            return (
                "checks",
                name,
                "action",
            ), "fallback asks the first of endpoint.fallback_models: name one"
    if checks.language.languages and find_spec("py3langid") is None:
        need = "needs py3langid: pip install 'caption-pipeline[language]'"
        return ("checks", "language", "languages"), need
    return ("checks",), ""
