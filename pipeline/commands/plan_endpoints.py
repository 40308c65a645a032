"""`plan` of several endpoints: each one's limits and day, and their sum. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.clock import iso
from pipeline.commands.forecast import Pace
from pipeline.commands.service_status import ServiceStatus

_LIMITS = {
    "requests_per_minute": "per_minute",
    "requests_per_day": "daily",
    "tokens_per_minute": "tokens_per_minute",
}


def limits_of(services: Mapping[str, ServiceStatus]) -> dict[str, Any]:
    """Limits by name, with their sources; of several endpoints the sums, null where one has none."""
    every = [status.quota_limits for status in services.values()]
    sums = {key: total(getattr(each, name) for each in every) for key, name in _LIMITS.items()}
    return {**sums, "sources": dict(every[0].sources) if len(every) == 1 else {}}


def today_of(services: Mapping[str, ServiceStatus]) -> dict[str, Any] | None:
    """What is left of the day; of several endpoints all together, new at the first one's instant."""
    days = [status.today for status in services.values()]
    known = [day for day in days if day is not None]
    if not known:
        return None
    return {
        "used": sum(day.used for day in known),
        "left": total(day and day.left for day in days),
        "resets_at": iso(min(day.resets_at for day in known)),
    }


def total(values: Any) -> Any:
    """The sum; None where one is not known."""
    known = list(values)
    return None if None in known else sum(known)


def endpoints_of(
    services: Mapping[str, ServiceStatus],
    paces: Mapping[str, Pace],
    a_day: Callable[[int], dict[str, int | None]],
) -> dict[str, Any]:
    """The key `endpoints` of a job with several. a_day: requests a day -> captions a day."""
    if "" in services:
        return {}
    rows = {
        name: {
            "model": status.service.model.id,
            "limits": limits_of({name: status}),
            "today": today_of({name: status}),
            "binding_limit": paces[name].binding,
            "requests_per_day": paces[name].daily,
            "captions_per_day": a_day(paces[name].daily),
        }
        for name, status in services.items()
    }
    return {"endpoints": rows}


def endpoint_lines(figures: Mapping[str, Any]) -> list[str]:
    """A line for each of several endpoints."""
    said = []
    for name, row in figures.get("endpoints", {}).items():
        limits, day = row["limits"], row["today"]
        captions = next(iter(row["captions_per_day"].values()), None)
        parts = [f"{captions:,} captions a day"] if captions is not None else []
        if (most := limits["requests_per_day"]) is not None:
            guess = limits["sources"].get("requests_per_day")
            parts.append(f"{most:,} requests a day" + (f" ({guess})" if guess else ""))
        if (most := limits["requests_per_minute"]) is not None:
            guess = limits["sources"].get("requests_per_minute")
            parts.append(f"{most:g} a minute" + (f" ({guess})" if guess else ""))
        if day is not None and day["left"] is not None:
            parts.append(f"{day['left']:,} left, new at {day['resets_at']}")
        said.append(f"  {name} ({row['model']}): {'; '.join(parts)}")
    return said


__all__ = ["endpoint_lines", "endpoints_of", "limits_of", "today_of"]
