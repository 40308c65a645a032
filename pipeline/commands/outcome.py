"""How a run ended: exit code, the one line for people, and the summary object for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline import clock
from pipeline.captioning.progress import RunCounters
from pipeline.captioning.select import Counts
from pipeline.errors import CODES, Exit, StopReason
from pipeline.packsize.auto import FIRST
from pipeline.plural import counted

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig


#: Code -> what to set or do so that such images can be captioned.
REMEDIES = {
    "bad_row": "mend the rows of the manifest: the error names the column",
    "bad_uri": "name the column with the pictures in manifest.image",
    "blocked_address": "name the hosts in images.allow, the packages in images.packages, if these places are meant",
    "blocked_path": "set images.root to the folder that the manifest may read",
    "check_failed": "change the prompt, or the action of the check that flags names (checks.NAME.action)",
    "connect": "see whether the host runs, and images.proxy",
    "corrupt": "replace the file by a whole one",
    "dns": "see whether the host's name is right, and images.proxy",
    "doubted": "run again",
    "empty": "run again, or choose another endpoint.model",
    "http_4xx": "see whether the links are still valid",
    "http_5xx": "run again when the host is well",
    "image_rejected": "set images.send: inline, a smaller images.max_side, or choose another endpoint.model",
    "malformed": "set packing.images_per_request: 1, or choose another endpoint.model",
    "missing_file": "set images.root to the folder that holds the pictures",
    "noai": "leave it out: its owner asks for that",
    "refused": "change prompt.text, or choose another endpoint.model",
    "safety": "change prompt.text, or choose another endpoint.model",
    "server_error": "run again, or choose another endpoint.model",
    "timeout": "raise images.timeout",
    "timeout_service": "raise endpoint.timeout",
    "too_large": "make the file smaller, or images.max_side where the service refused it",
    "too_long": "raise endpoint.max_reply, or shorten the prompt",
    "too_many_pixels": "raise images.max_pixels, or make the picture smaller",
    "truncated": "raise endpoint.params.max_tokens, or switch thinking off",
    "unsupported_format": "convert the file to JPEG, PNG or WebP; HEIC and AVIF need a plugin",
}

#: Faults of the file's bytes: with others the image is chosen anew (`FileVersions`), whatever `--retry` says.
BAD_FILE = frozenset({"corrupt", "unsupported_format"})


def exit_code(counters: RunCounters, reason: StopReason | None, *, max_failed: int) -> Exit:
    """The process's exit code. Signal > 70 > 73/76 > 77/69 > 75 > 1 > 0.

    What a limit, a pilot or a shard leaves was not asked for, and counts as no failure.
    """
    if reason is not None and not (
        reason.exit is Exit.LATER and counters.captioned == counters.images
    ):
        return reason.exit
    return Exit.DONE if counters.failures <= max_failed else Exit.SOME_FAILED


def unfinished(counters: RunCounters, *, max_failed: int, limited: bool) -> StopReason | None:
    """Why a run that nothing stopped has work left for the next run, if it has. limited: the
    user asked for a part of the images."""
    if counters.left and not limited and counters.images - counters.captioned > max_failed:
        message = f"{counted(counters.left, 'image')} could not be asked; run again"
        return StopReason(exit=Exit.LATER, message=message)
    passing = sum(count for code, count in counters.failed.items() if not CODES.get(code, True))
    passing = max(0, passing - counters.lasting)
    if passing and counters.failures > max_failed:
        message = f"{passing:,} failed for reasons that pass: run again to ask them again"
        return StopReason(exit=Exit.LATER, message=message)
    return None


def opening(job: JobConfig, counts: Counts, column: str, *, join: bool = False) -> str:
    """The first line: what will happen. column: of the images. join: shards are joined, and nothing is asked."""
    if not counts.images:
        return f"{job.name}: the manifest is empty, there is nothing to do"
    about = "" if counts.exact else "more than " if counts.more else "about "
    message = f"{job.name}: {about}{counted(counts.images, 'image')} in {counted(counts.rows, 'row')}, column {column!r}"
    if (prompts := len(job.prompt.prompts)) > 1:
        all_of = job.prompt.mode == "each"
        message += (
            f", each {'image once for each of its' if all_of else 'with one of'} {prompts} prompts"
        )
    if counts.captioned:
        message += f", {counts.captioned:,} captioned"
    if counts.failed:
        message += f", {sum(counts.failed.values()):,} failed before"
    if not counts.asked:
        # The last line says how failed images are asked again.
        return f"{message}; nothing {'new' if counts.failed else 'left'} to ask, no request is sent"
    if join:
        return f"{message}; a join asks nothing, no request is sent"
    size = job.packing.images_per_request
    each = size if isinstance(size, int) else FIRST
    requests = -(-counts.asked // each)
    if size == "auto":
        model = job.endpoint.model
        return f"{message}; asking {counts.asked:,} in packs of what suits {model}, {each} at first"
    message += f"; asking {about}{counts.asked:,} in {counted(requests, 'request')}"
    services = ", ".join(settings.profile for settings in job.endpoints) or job.endpoint.profile
    return f"{message} of {each} to {job.endpoint.model} ({services})"


def headline(
    counters: RunCounters,
    reason: StopReason | None,
    *,
    dataset: str | None,
    asked: int,
    quota: Mapping[str, Any],
    each: float | None = None,
    failures: str | None = None,
) -> str:
    """The last line: why it ended early, what was done, where it is, what it cost, what to do next.

    failures: the file that names the failed images. each: images answered a request as runs have measured it; None: this run's own.
    """
    parts = [reason.message] if reason is not None and reason.exit is not Exit.LATER else []
    done = "images captioned" if counters.prompts == 1 else "captions"
    parts.append(f"{counters.captioned:,} of {counters.images:,} {done}")
    if counters.failures:
        codes = ", ".join(f"{code} {count:,}" for code, count in sorted(counters.failed.items()))
        listed = f", named in {failures}" if failures else ""
        parts.append(f"{counters.failures:,} failed ({codes}){listed}")
    if counters.left:
        parts.append(f"{counters.left:,} left")
    if asked:
        refused = f" ({counters.refused:,} refused)" if counters.refused else ""
        parts.append(f"{counted(counters.requests, 'request')}{refused}, ${counters.cost_usd:.4g}")
    else:
        parts.append("no request sent")
    if dataset is not None:
        parts.append(dataset)
    if reason is not None and reason.exit is Exit.LATER:
        parts.append(reason.message)
    # A service that refuses says nothing about the nights to come.
    goes_on = reason is not None and reason.exit not in (Exit.SERVICE, Exit.KEY)
    if goes_on and (more := nights(counters, quota, each)):
        parts.append(f"about {counted(more, 'more night')}")
    if not counters.captioned and not counters.left and len(counters.failed) == 1:
        parts += [remedy] if (remedy := REMEDIES.get(next(iter(counters.failed)))) else []
    if reason is None and (again := _again(counters.failed)):
        parts.append(again)
    return "; ".join(parts)


def _again(failed: Mapping[str, int]) -> str | None:
    """How failures for good are asked again."""
    lasting = ",".join(sorted(code for code in failed if CODES.get(code, True)))
    if not lasting:
        return None
    message = f"failed images are asked again with --retry {lasting}"
    itself = " (a local file that was replaced, by itself, unless images.identity names a column)"
    return message + itself if BAD_FILE & failed.keys() else message


def in_short(summary: Mapping[str, Any]) -> str:
    """A run in one line, for those who are told of its end."""
    message = (
        f"{summary['job']}: {summary['captioned']:,} of {summary['images']:,} images captioned"
    )
    message += f", {summary['failed']:,} failed, {summary['left']:,} left"
    return message + (f"; {summary['reason']}" if summary["reason"] else "")


def nights(counters: RunCounters, quota: Mapping[str, Any], each: float | None) -> int | None:
    """Nights that the rest takes at so many images a request; None without a daily limit.

    One night with an outage says little about the others, so what was measured goes before it.
    """
    limit = quota.get("limit")
    if not isinstance(limit, int) or not counters.left:
        return None
    each = each or (counters.new_captions / counters.requests if counters.requests else 1.0)
    return math.ceil(counters.left / max(1.0, limit * each))


def summary(
    counters: RunCounters,
    *,
    run_id: str,
    job: str,
    code: Exit,
    reason: StopReason | None,
    quota: Mapping[str, Any],
    output: str,
    dataset: str | None,
    seconds: float,
) -> dict[str, Any]:
    """The contract's summary object (`run --json`, `_state/runs.jsonl`)."""
    resume = reason.resume_after if reason is not None else None
    return {
        "run_id": run_id,
        "job": job,
        "exit_code": int(code),
        "reason": reason.message if reason is not None else None,
        "rows": counters.rows,
        "images": counters.images,
        "captioned": counters.captioned,
        "failed": counters.failures,
        "left": counters.left,
        "requests": counters.requests,
        "refused": counters.refused,
        "captions_per_request": (
            round(counters.new_captions / counters.requests, 3) if counters.requests else None
        ),
        "prompt_tokens": counters.prompt_tokens,
        "completion_tokens": counters.completion_tokens,
        "cost_usd": counters.cost_usd,
        "quota": quota_of(quota),
        "resume_after": clock.iso(resume) if resume is not None else None,
        "output": output,
        "dataset": dataset,
        "seconds": round(seconds, 3),
    }


def quota_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The summary's `quota` from the gate's facts."""
    quota = {name: facts.get(name) for name in ("limit", "used", "left", "resets_at")}
    if each := facts.get("endpoints"):
        quota["endpoints"] = {name: quota_of(own) for name, own in each.items()}
    return quota
