"""`status`: what is on disk and what a run is doing, without disturbing it.

Reads the parts' footers, the journal (read-only, never checkpointing its log) and `live.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.captioning.inputs import prompt_recipes
from pipeline.captioning.output_location import ours
from pipeline.captioning.pack_sizes import audits_of
from pipeline.captioning.progress import LIVE
from pipeline.captioning.progress_line import eta
from pipeline.clock import utc
from pipeline.commands.failures import failed_images, failed_lines
from pipeline.commands.model_selection import pinned
from pipeline.commands.outcome import quota_of
from pipeline.commands.shards_status import last_of, live_of
from pipeline.errors import CODES
from pipeline.plural import counted
from pipeline.store.lock import holder_of
from pipeline.store.runs import read_runs
from pipeline.store.shards import shard_folders, unjoined
from pipeline.store.snapshot import counts_by_recipe, read_state

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig


def status_command(job: JobConfig, *, as_json: bool, failed: bool) -> int:
    """Print the status, or (failed) the images without a caption; always 0."""
    facts = status_of(job)
    if failed and as_json:
        tables = failed_images(Path(job.output.path))
        facts["failed"] = [row for table in tables for row in table.to_pylist()]
    texts = failed_lines(Path(job.output.path)) if failed else lines(facts)
    for line in [json.dumps(facts)] if as_json else texts:
        print(line)  # noqa: T201 - the command's result
    return 0


def status_of(job: JobConfig) -> dict[str, Any]:
    """Everything that can be told, as one object with stable keys."""
    ours(job)
    output = Path(job.output.path)
    running, live, last = _of_shards(output) if unjoined(output) else _of_run(output)
    state = read_state(output)
    asked = pinned(job)
    crashed = running is None and live is not None and not live.get("closed")
    return {
        "job": job.name,
        "output": job.output.shown,
        "model": asked.endpoint.model,
        "running": running,
        "crashed": crashed,
        "captions": state.captions,
        "failures": state.failures,
        "by_prompt": _by_prompt(asked, output),
        "by_code": state.by_code,
        "requests": state.requests,
        "cost_usd": state.cost_usd,
        "unpublished": state.unpublished,
        "last_errors": state.last_errors,
        "audit": audit.message() if (audit := audits_of(output)) is not None else None,
        **pace(live if running else None, last),
        "live": live if running else None,
        "cut_off": live if crashed else None,
        "last_run": last,
    }


def _by_prompt(job: JobConfig, output: Path) -> dict[str, dict[str, int]]:
    """Captions and failures of each named prompt."""
    if not job.prompt.prompts:
        return {}
    recipes = prompt_recipes(job)
    counts = counts_by_recipe(output)
    return {
        str(name): {"captions": counts[recipe, "ok"], "failures": counts[recipe, "failed"]}
        for name, recipe in recipes.items()
    }


def _of_run(output: Path) -> tuple[str | None, dict[str, Any] | None, dict[str, Any] | None]:
    """Who is at work, what `live.json` says, and the last run that has ended."""
    runs = read_runs(output)
    return holder_of(output / "_state" / "lock"), _live(output), runs[-1] if runs else None


def _of_shards(output: Path) -> tuple[str | None, dict[str, Any] | None, dict[str, Any] | None]:
    """The same of all shards as one."""
    shards = [_of_run(folder) for folder in shard_folders(output)]
    running = [holder for holder, _, _ in shards if holder]
    ended = [last for holder, _, last in shards if last and not holder]
    live = live_of([live for holder, live, _ in shards if live and holder], ended)
    if running:
        more = "; …" if running[3:] else ""
        return f"{len(running)} shards: {'; '.join(running[:3])}{more}", live, None
    cut = [live for _, live, _ in shards if live and not live.get("closed")]
    return None, live_of(cut, ended) if cut else None, last_of(ended)


def pace(live: Mapping[str, Any] | None, last: Mapping[str, Any] | None) -> dict[str, Any]:
    """Images a minute, the day's quota, and what is still to come: of the run that goes on (live), or
    as the last one left it."""
    if live is None:
        quota = (last or {}).get("quota") or {}
        rate, nights, minutes = None, None, None
    else:
        quota, passed = live["quota"], max(live["seconds"], 1e-9) / 60
        rate = round(live["settled_this_run"] / passed, 1)
        left = 0 if live.get("more") else max(0, live["to_settle"] - live["settled_this_run"])
        nights, minutes = eta(live["settled_this_run"], live["requests"], left, quota, passed)
    return {
        "per_minute": rate,
        "quota": quota_of(quota),
        "eta_nights": nights,
        "eta_minutes": minutes,
    }


def pace_words(facts: Mapping[str, Any]) -> list[str]:
    """The lines about the quota and the time it takes; none where there is nothing to tell."""
    parts = quota_words("quota", facts["quota"])
    for name, own in facts["quota"].get("endpoints", {}).items():
        parts += quota_words(f"quota of {name}", own)
    if (nights := facts["eta_nights"]) is not None:
        parts.append(f"about {counted(nights, 'more night')}")
    elif (minutes := facts["eta_minutes"]) is not None:
        parts.append(f"about {counted(minutes, 'minute')} to go")
    if (live := facts["live"]) and (until := live["quota"].get("paused_until")):
        parts.append(f"paused until {utc(until)}: the service asks to wait")
    if live and live["quota"].get("weather") == "closed":
        parts.append(
            "outage: nothing succeeds at the service; probing until it does (circuit open)"
        )
    return parts


def running_words(facts: Mapping[str, Any]) -> list[str]:
    """How far the run is, and what holds it up; nothing where it has not said so yet."""
    if not (live := facts["live"]):
        return []
    of = "" if live.get("more") else f" of {live['to_settle']:,}"
    return [
        (
            f"{live['settled_this_run']:,}{of} settled, {facts['per_minute']:,.0f} a minute, "
            f"{counted(live['requests'], 'request')}, {live['refused']:,} refused"
        ),
        *pace_words(facts),
    ]


def quota_words(what: str, quota: Mapping[str, Any]) -> list[str]:
    """The line about a day; none where nothing is counted."""
    if not quota["limit"]:
        return []
    new = f", new at {utc(at)}" if (at := quota["resets_at"]) is not None else ""
    used = f"{quota['used']:,} of {quota['limit']:,} requests"
    left = f"{quota['left']:,} left" if quota["left"] is not None else ""
    return [", ".join(filter(None, [f"{what}: {used} used that day", left])) + new]


def crash_words(live: dict[str, Any]) -> list[str]:
    """What happened, as far as it was written down, and what a rerun will do."""
    flight = live["quota"].get("in_flight") or 0
    left = max(0, live["to_settle"] - live["settled_this_run"])
    return [
        (
            f"the last run (pid {live['pid']}) did not end by itself; last seen {utc(live['at'])} with "
            f"{live['settled_this_run']:,} of {live['to_settle']:,} settled by "
            f"{counted(live['requests'], 'request')}, {flight} in flight"
        ),
        (
            f"running again keeps every answer that came and asks the rest, at most {counted(left, 'image')}; "
            "what was in flight stays counted as spent"
        ),
    ]


def _live(output: Path) -> dict[str, Any] | None:
    try:
        live = json.loads((output / "_state" / LIVE).read_text())
    except (OSError, ValueError):
        return None
    whole = isinstance(live, dict) and isinstance(live.get("quota"), dict)
    numbers = ("seconds", "at", "pid", "to_settle", "settled_this_run", "requests", "refused")
    return live if whole and all(isinstance(live.get(n), int | float) for n in numbers) else None


def lines(facts: dict[str, Any]) -> list[str]:
    """The status for people."""
    first = (
        f"{facts['job']}: {counted(facts['captions'], 'caption')}, {counted(facts['failures'], 'failure')}, "
        f"{counted(facts['requests'], 'request')}, ${facts['cost_usd']:.4g} in {facts['output']}"
    )
    texts = [first, f"model: {facts['model']}"]
    texts += [
        f"  prompt {name}: {counted(of['captions'], 'caption')}, {counted(of['failures'], 'failure')}"
        for name, of in facts["by_prompt"].items()
    ]
    if facts["unpublished"]:
        texts.append(f"{counted(facts['unpublished'], 'answer')} in the journal, not yet in a part")
    if facts["running"]:
        texts.append(f"running: {facts['running']}")
        texts += [f"  {text}" for text in running_words(facts)]
    elif facts["crashed"]:
        texts += crash_words(facts["cut_off"])
    elif last := facts["last_run"]:
        texts.append(
            f"last run {last['run_id']}: exit {last['exit_code']}, {last['captioned']:,} of "
            f"{last['images']:,} captioned, {last['left']:,} left"
            + (f"; {last['reason']}" if last["reason"] else "")
        )
        if last["resume_after"]:
            texts.append(f"resume after {last['resume_after']}")
        texts += pace_words(facts)
    else:
        texts.append("no run has ended here yet")
    for code, count in sorted(facts["by_code"].items(), key=lambda pair: -pair[1]):
        again = "only with --retry" if CODES.get(code, True) else "asked again by the next run"
        texts.append(f"  {code}: {count:,} ({again}), e.g. {facts['last_errors'].get(code, '')}")
    if facts["audit"]:
        texts.append(facts["audit"])
    return texts
