"""`run.metrics`: a Prometheus text file for node_exporter's textfile collector.

Gauges only: each run starts its own counts, and a counter that falls back would be read as a
restart. Renamed into place, so that a scrape never sees half of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import fs
from pipeline.captioning.progress import RunCounters
from pipeline.config.allowed_paths import may_replace

_log = logging.getLogger("pipeline")


def metrics_text(
    job: str, counters: RunCounters, quota: Mapping[str, Any], *, now: float, exit_code: int | None
) -> str:
    """The file. exit_code: None while the run is going on."""
    label = f'job="{_escaped(job)}"'
    lines: list[str] = []
    for name, description, samples in _metrics(counters, quota, now, exit_code):
        full = f"caption_pipeline_{name}"
        lines += [f"# HELP {full} {description}", f"# TYPE {full} gauge"]
        for more, value in samples:
            number = repr(value) if value % 1 else str(int(value))
            lines.append(f"{full}{{{label}{more}}} {number}")
    return "\n".join(lines) + "\n"


def _metrics(
    counters: RunCounters, quota: Mapping[str, Any], now: float, exit_code: int | None
) -> Iterator[tuple[str, str, list[tuple[str, float]]]]:
    states = {"captioned": counters.captioned, "failed": counters.failures, "left": counters.left}
    counted = [(f',state="{state}"', float(count)) for state, count in states.items()]
    yield "images", "Images of the manifest by state.", counted
    codes = [(f',code="{_escaped(code)}"', float(n)) for code, n in sorted(counters.failed.items())]
    if codes:
        yield "failed_images", "Images without a caption by error code.", codes
    for name, description, value in (
        ("run_requests", "HTTP attempts of this run.", counters.requests),
        ("run_refused_requests", "Attempts of this run that a limit refused.", counters.refused),
        ("run_captions", "Captions that this run brought.", counters.new_captions),
        ("run_prompt_tokens", "Prompt tokens of this run.", counters.prompt_tokens),
        ("run_completion_tokens", "Completion tokens of this run.", counters.completion_tokens),
        ("run_cost_dollars", "Cost of this run in US dollars.", counters.cost_usd),
    ):
        yield name, description, [("", float(value))]
    for name in ("limit", "used"):
        if isinstance(count := quota.get(name), int):
            yield f"quota_{name}_requests", f"Requests of the day: {name}.", [("", float(count))]
    yield "running", "Is a run going on?", [("", float(exit_code is None))]
    if exit_code is not None:
        yield "exit_code", "How the last run ended.", [("", float(exit_code))]
    yield "written_timestamp_seconds", "When this was written.", [("", now)]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def update(
    path: str | None,
    job: str,
    counters: RunCounters,
    quota: Mapping[str, Any],
    *,
    now: float,
    exit_code: int | None = None,
) -> None:
    """Replace the file, if one is wanted. One that cannot be written is a warning, no more."""
    if path is None:
        return
    text = metrics_text(job, counters, quota, now=now, exit_code=exit_code)
    try:
        if not may_replace(Path(path)):
            raise FileExistsError(None, "there is another file, which is never written over")
        fs.write_atomic(Path(path), text.encode())
    except OSError as error:
        _log.warning("run.metrics: %s cannot be written (%s)", path, error.strerror)
