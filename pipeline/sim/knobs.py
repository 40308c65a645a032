"""What can be turned on a simulated service; one frozen object, all from one seed."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from pipeline.sim.limits import Window

#: Faults of one reply, dealt out with equal chance by `faulty`.
FAULTS = (
    "http_500",
    "http_502",
    "http_503",
    "html_524",
    "error_in_200",
    "choice_error",
    "null_choices",
    "nested_choices",
    "empty",
    "cut_body",
    "blank",
    "reset",
    "upstream_429",
)
#: What a packed reply may do wrong, dealt out by `lying`.
LIES = ("drop", "swap", "repeat", "zero_based", "cut", "prose", "one_object", "fences", "comma")


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """Defaults are a service without limits and without faults."""

    #: Models: id -> price per token in US dollars (0 is free).
    models: tuple[tuple[str, float], ...] = ()
    #: Keys that are taken; empty: any, also none.
    keys: tuple[str, ...] = ()
    rpm: int | None = None
    rpd: int | None = None
    window: Window = "fixed"
    #: Whose limits they are: `account` or `model`.
    limits: str = "account"
    #: Do refused requests count?
    count_refused: bool = True
    #: Where rate headers stand: `body`, `http`, `both`, `none`.
    rate_headers: str = "body"
    retry_after: bool = False
    #: Seconds a reply takes, from … to.
    latency: tuple[float, float] = (0.0, 0.0)
    #: Blank bytes sent before the body.
    padding: int = 0
    #: Share of replies with a fault, and which.
    faulty: float = 0.0
    faults: tuple[str, ...] = FAULTS
    #: Share of packed replies that lie, and how.
    lying: float = 0.0
    lies: tuple[str, ...] = LIES
    #: Share of images that the model refuses, decided by the image itself.
    refused: float = 0.0
    #: Can the service fetch image URLs itself?
    fetches_urls: bool = True
    #: Every request fails from … to (seconds after the start).
    outage: tuple[float, float] | None = None
    #: After so many requests the model is gone, the key revoked, the credit spent, or a paid model
    #: answers instead.
    gone_after: int | None = None
    revoked_after: int | None = None
    broke_after: int | None = None
    rerouted_after: int | None = None
    #: 258 tokens an image, or by tiles.
    tokens: str = "flat"
    #: Has the account ever bought credit? (`/key`)
    free_tier: bool = True


PROFILES: dict[str, Knobs] = {
    "embedded": Knobs(models=(("embedded/pixels", 0.0),), rpm=300),
    "openrouter-2024-exp": Knobs(
        models=(("google/gemini-flash-1.5-8b-exp", 0.0), ("google/gemini-flash-1.5", 7.5e-8)),
        rpm=15,
        rpd=80,
        limits="model",
    ),
    "openrouter-2026-free": Knobs(
        models=(
            ("google/gemma-4-31b-it:free", 0.0),
            ("google/gemini-2.5-flash", 3e-7),
            ("openai/gpt-5-nano", 5e-8),
        ),
        rpm=20,
        rpd=50,
    ),
    "openrouter-paid": Knobs(models=(("google/gemini-2.5-flash", 3e-7),), free_tier=False),
}


def turned(profile: str, changes: dict[str, object]) -> Knobs:
    """The knobs of a profile with some changed; KeyError or TypeError name what is wrong."""
    base = PROFILES[profile]
    names = {field.name for field in fields(Knobs)}
    for name in changes:
        if name not in names:
            raise KeyError(f"no knob {name!r}; there are: {', '.join(sorted(names))}")
    return replace(base, **changes)  # type: ignore[arg-type] # checked by name just above
