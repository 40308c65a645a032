"""`status` of an output that several runs fill at once: their files, put together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Counts of the manifest's rows, and of what the runs have done: both add up over shards.
_ROWS = ("rows", "images", "captioned", "failed", "left")
_DONE = ("settled_this_run", "to_settle", "requests", "refused")
_SPENT = ("requests", "refused", "prompt_tokens", "completion_tokens", "cost_usd")


def live_of(
    running: Sequence[Mapping[str, Any]], ended: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """`live.json` of all runs that go on as one: what they and the shards that have ended count
    together, the quota as the latest of them knows it. None where none goes on."""
    if not running:
        return None
    latest = max(running, key=lambda live: live["at"])
    flying = sum(live["quota"].get("in_flight") or 0 for live in running)
    return {
        **latest,
        **_sums([*running, *ended], _ROWS),
        **_sums(running, _DONE),
        "more": any(live.get("more") for live in running),
        "seconds": max(live["seconds"] for live in running),
        "quota": {**latest["quota"], "in_flight": flying},
    }


def last_of(ended: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The last runs of all shards as one: what they counted together, and how the one with the
    highest exit code ended. None where none has ended."""
    if not ended:
        return None
    worst = max(ended, key=lambda run: run["exit_code"])
    sums = _sums(ended, (*_ROWS, *_SPENT))
    answered = sum((run.get("captions_per_request") or 0.0) * run["requests"] for run in ended)
    each = round(answered / sums["requests"], 3) if sums["requests"] else None
    return {**worst, **sums, "captions_per_request": each}


def _sums(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    return {name: sum(run.get(name) or 0 for run in runs) for name in names}
