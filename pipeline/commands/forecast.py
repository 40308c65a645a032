"""How long a job takes: what each endpoint gives a day, and all of them together. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.commands.rates import Rates
from pipeline.commands.service_status import ServiceStatus
from pipeline.packsize import cost

DAY, MINUTES_A_DAY = 86_400.0, 1_440
#: Seconds an answer takes where nothing was measured yet: a free vision model's usual latency.
LATENCY = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Requests that one endpoint takes."""

    #: What binds: `requests_per_day`, `requests_per_minute`, …
    binding: str
    #: In a full day, and in what is left of this one.
    daily: int
    rest: int
    #: While it is being asked, as requests a day.
    speed: int
    #: When the next day begins (epoch s).
    resets_at: float

    def within(self, seconds: float, now: float) -> float:
        """Requests from now (epoch s) on for so many seconds."""
        asked = self.speed * seconds / DAY
        today = max(0.0, self.resets_at - now)
        if self.binding != "requests_per_day":
            return asked
        if seconds <= today:
            return min(float(self.rest), asked)
        days, part = divmod(seconds - today, DAY)
        first = min(float(self.rest), self.speed * today / DAY)
        return first + days * self.daily + min(float(self.daily), self.speed * part / DAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Nights and the end."""

    #: Requests that all endpoints take in a full day.
    daily: int
    #: As of `Pace`; `endpoints`: the sum of several.
    binding: str
    nights: int
    ends_at: float
    #: Each endpoint's share of the requests.
    shares: Mapping[str, float]


def pace_of(
    size: int, status: ServiceStatus, *, now: float, concurrency: int, rates: Rates | None
) -> Pace:
    """How fast one endpoint takes packs of `size`, at rates that were measured."""
    quota_limits, day = status.quota_limits, status.today
    latency = max(0.001, rates.latency) if rates else LATENCY
    ways = {"latency": int(concurrency / latency * DAY)}
    if quota_limits.per_minute is not None:
        ways["requests_per_minute"] = int(quota_limits.per_minute * MINUTES_A_DAY)
    if quota_limits.tokens_per_minute is not None:
        tokens = size * (cost.TOKENS_PER_TILE * 2 + cost.CAPTION_TOKENS)
        ways["tokens_per_minute"] = max(1, quota_limits.tokens_per_minute * MINUTES_A_DAY // tokens)
    speed = max(1, min(ways.values()))
    if quota_limits.daily is not None:
        ways["requests_per_day"] = quota_limits.daily
    binding = min(ways, key=lambda name: ways[name])
    daily = max(1, ways[binding])
    return Pace(
        binding=binding,
        daily=daily,
        rest=daily if day is None or day.left is None else min(daily, day.left),
        speed=speed,
        resets_at=day.resets_at if day is not None else now + DAY,
    )


def forecast(requests: int, paces: Mapping[str, Pace], *, now: float) -> Forecast:
    """How long so many requests take."""
    daily = sum(pace.daily for pace in paces.values())
    rest = sum(pace.rest for pace in paces.values())
    nights = (
        0 if requests == 0 else 1 if requests <= rest else 1 + math.ceil((requests - rest) / daily)
    )
    if len(paces) > 1:
        took = _seconds(requests, paces, now)
        each = {name: pace.within(took, now) for name, pace in paces.items()}
        whole = sum(each.values())
        shares = {name: count / whole if whole else 0.0 for name, count in each.items()}
        ends, binding = now + took, "endpoints"
    else:
        [(name, pace)] = paces.items()
        shares, binding = {name: 1.0}, pace.binding
        if binding != "requests_per_day" or nights <= 1:
            ends = now + requests / pace.speed * DAY
        else:
            last = requests - rest - (nights - 2) * daily
            ends = pace.resets_at + (nights - 2 + last / pace.speed) * DAY
    return Forecast(daily=daily, binding=binding, nights=nights, ends_at=ends, shares=shares)


def _seconds(requests: int, paces: Mapping[str, Pace], now: float) -> float:
    """After which all endpoints together have taken the requests; to a second."""
    low, high = 0.0, DAY
    while sum(pace.within(high, now) for pace in paces.values()) < requests:
        low, high = high, 2 * high
    while high - low > 1.0:
        middle = (low + high) / 2
        done = sum(pace.within(middle, now) for pace in paces.values())
        low, high = (low, middle) if done >= requests else (middle, high)
    return high if requests else 0.0


__all__ = ["DAY", "LATENCY", "Forecast", "Pace", "forecast", "pace_of"]
