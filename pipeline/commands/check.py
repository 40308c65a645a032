"""`check`: everything that can be known before the first request, line by line, with its remedy."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import fs
from pipeline.captioning.inputs import Environment, boundary_of, inspect_manifest, one_by_one
from pipeline.captioning.output_location import ours, shared, state_folder
from pipeline.clock import utc
from pipeline.commands import model_selection as choice
from pipeline.commands.outcome import REMEDIES
from pipeline.commands.service_status import ServiceStatus, service_status
from pipeline.errors import Exit, Held, ImageError, ManifestError, OutputError, PipelineError
from pipeline.plural import counted
from pipeline.ratelimit.days import describe
from pipeline.ratelimit.limits import REMEMBERED
from pipeline.store.lock import holder_of
from pipeline.store.remote.filesystem import put_whole

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig
    from pipeline.manifest.open import Manifest
    from pipeline.model import Row
    from pipeline.ratelimit.limits import QuotaLimits


#: Which of several exit codes is told, the first that is there.
WORST = [
    int(code)
    for code in (
        *(Exit.OUTPUT, Exit.HELD, Exit.KEY, Exit.SERVICE),
        *(Exit.JOB, Exit.MANIFEST, Exit.LATER),
    )
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckLine:
    """One thing that was looked at."""

    what: str
    ok: bool
    #: What was found, or what is wrong and how to mend it.
    message: str
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """The line under the documented keys of `check --json`."""
        return {
            "what": self.what,
            "ok": self.ok,
            "words": self.message,
            "exit_code": self.exit_code,
        }


def check_command(
    job: JobConfig, environ: Mapping[str, str], environment: Environment, *, as_json: bool
) -> int:
    """Print every line; 0 when all are ok, else the worst one's exit code."""
    lines = [CheckLine(what="job file", ok=True, message=f"{job.name}: read and checked")]
    lines += service_lines(job, environ, environment)
    lines += manifest_lines(job, environment)
    lines.append(look("output", lambda: output_words(job)))
    lines.append(look("disk", lambda: disk_words(job)))
    lines.append(look("state folder", lambda: state_words(environ)))
    ok = all(line.ok for line in lines)
    if as_json:
        print(json.dumps({"ok": ok, "lines": [line.as_json() for line in lines]}))  # noqa: T201
    else:
        for line in lines:
            print(f"{'ok    ' if line.ok else 'FAILED'} {line.what}: {line.message}")  # noqa: T201
    return min((line.exit_code for line in lines if not line.ok), key=WORST.index, default=0)


def look(what: str, act: Callable[[], str]) -> CheckLine:
    """A line from something that gives words or raises a PipelineError."""
    try:
        return CheckLine(what=what, ok=True, message=act())
    except PipelineError as error:
        return CheckLine(what=what, ok=False, message=str(error), exit_code=int(error.exit_code))


def service_lines(
    job: JobConfig, environ: Mapping[str, str], environment: Environment
) -> list[CheckLine]:
    """Key, model and quota of each endpoint."""
    return [
        replace(line, what=f"{line.what} of {name}" if name else line.what)
        for name, own in one_by_one(job).items()
        for line in _service_lines(own, environ, environment)
    ]


def _service_lines(
    job: JobConfig, environ: Mapping[str, str], environment: Environment
) -> list[CheckLine]:
    from pipeline.service.endpoint import endpoint_of

    asked = job.endpoint.model
    try:
        endpoint = endpoint_of(job.endpoint, environ)
    except PipelineError as error:
        return [CheckLine(what="key", ok=False, message=str(error), exit_code=int(error.exit_code))]
    lines = [
        CheckLine(
            what="key",
            ok=True,
            message="not needed" if endpoint.key is None else "set, in the environment or in .env",
        )
    ]
    try:
        job, how = choice.pinned(job), ""
        if auto := choice.is_auto(job):
            job = asyncio.run(choice.settled(job, environment))
        if asked == choice.AUTO:
            how = f"{choice.AUTO} would choose it" if auto else f"chosen for {choice.AUTO} and kept"
        endpoint = replace(endpoint, settings=job.endpoint, chosen=bool(how))
        status = asyncio.run(service_status(job, endpoint, environment))
    except PipelineError as error:
        message = str(error)
        return [
            *lines,
            CheckLine(what="model", ok=False, message=message, exit_code=int(error.exit_code)),
        ]
    return [*lines, model_line(job, status, how), quota_line(status), *clock_lines(status)]


def model_line(job: JobConfig, status: ServiceStatus, how: str) -> CheckLine:
    model = status.service.model
    parts = [f"{model.id} at {job.endpoint.profile}", *filter(None, [how])]
    if model.prices is not None:
        parts.append("free" if model.free else "costs money, and endpoint.allow_paid is set")
    if model.context:
        parts.append(f"context {model.context:,}")
    parts += status.service.warnings
    return CheckLine(what="model", ok=True, message="; ".join(parts))


def quota_line(status: ServiceStatus) -> CheckLine:
    quota_limits, day = status.quota_limits, status.today
    parts = []
    if quota_limits.per_minute is not None:
        source = quota_limits.sources.get("requests_per_minute", "")
        parts.append(f"{quota_limits.per_minute:g} a minute ({source})")
    if quota_limits.daily is not None:
        source = quota_limits.sources.get("requests_per_day", "")
        parts.append(f"{quota_limits.daily} a day ({source})")
    if day is not None and day.left is not None:
        parts.append(f"{day.left} left today, new at {utc(day.resets_at)}")
        if not day.left:
            spent = "; ".join(parts) + "; the day is spent: run after that"
            return CheckLine(what="quota", ok=False, message=spent, exit_code=int(Exit.LATER))
    known = "; ".join(filter(None, [*parts, window_words(quota_limits)]))
    return CheckLine(what="quota", ok=True, message=known or "no limit known")


def window_words(quota_limits: QuotaLimits) -> str:
    """What the service has for a day, and how that is known."""
    if quota_limits.bucket is not None:
        learnt = quota_limits.sources.get("requests_per_day") == REMEMBERED
        return f"a bucket that refills all the time ({REMEMBERED if learnt else 'its profile'})"
    if quota_limits.daily is None and not quota_limits.announced:
        return ""
    return describe(quota_limits.zone)


def clock_lines(status: ServiceStatus) -> list[CheckLine]:
    """Is this machine's clock near the service's?"""
    off = status.service.clock_off
    if off is None:
        return []
    if abs(off) <= 120:
        return [
            CheckLine(what="clock", ok=True, message=f"within {abs(off):.0f} s of the service's")
        ]
    message = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the service's: set it (NTP)"
    return [CheckLine(what="clock", ok=False, message=message, exit_code=int(Exit.SERVICE))]


def manifest_lines(job: JobConfig, environment: Environment) -> list[CheckLine]:
    """The manifest, and whether the first pictures that it names can be opened."""
    try:
        manifest, _ = inspect_manifest(job)
    except PipelineError as error:
        code = int(error.exit_code)
        return [CheckLine(what="manifest", ok=False, message=str(error), exit_code=code)]
    return [
        CheckLine(what="manifest", ok=True, message=manifest_words(manifest)),
        look("images", lambda: images_words(job, manifest, environment)),
    ]


def manifest_words(manifest: Manifest) -> str:
    rows = "rows not counted yet" if manifest.rows is None else counted(manifest.rows, "row")
    return f"{manifest.path}: {manifest.format}, {rows}, images in column {manifest.image!r}"


def output_words(job: JobConfig) -> str:
    """Can it be written? Tried with a temporary file in the nearest folder that is there."""
    output = Path(job.output.path)
    if holder := holder_of(output / "_state" / "lock"):
        raise Held(f"{output}: a run is going on ({holder}); `status` shows it")
    ours(job)
    there = nearest(output)
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OutputError(f"{there}: cannot be written ({error.strerror})") from None
    if (store := shared(job)) is None:
        return f"{output}: can be written"
    probe = f"_state/check-{secrets.token_hex(4)}"
    put_whole(store, probe, b"check", new=True)
    store.remove(probe)
    return f"{store.shown}: can be written; its journal is kept in {output}"


def nearest(path: Path) -> Path:
    """The path, or its nearest parent that is there."""
    path = path.absolute()
    while not os.path.exists(path):  # noqa: PTH110 - also False where nobody may look
        path = path.parent
    return path


def disk_words(job: JobConfig) -> str:
    free = fs.free_bytes(nearest(Path(job.output.path)))
    if free < job.run.min_free:
        raise OutputError(
            f"{free / 1e6:,.0f} MB free, run.min_free wants {job.run.min_free / 1e6:,.0f} MB: make room"
        )
    return f"{free / 1e9:,.1f} GB free"


def state_words(environ: Mapping[str, str]) -> str:
    folder = state_folder(environ)
    try:
        with tempfile.TemporaryFile(dir=nearest(folder)):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder}: the quota ledger cannot be written ({error.strerror}); set "
            "CAPTION_PIPELINE_STATE to a folder of yours"
        ) from None
    return f"{folder}: the quota ledger can be kept"


#: Pictures that are opened.
OPENED = 20
#: Letters of a picture's name in a message.
NAME_CHARS = 200


def images_words(job: JobConfig, manifest: Manifest, environment: Environment) -> str:
    """How many of the first pictures can be opened; ManifestError (65) when none of them can."""
    return asyncio.run(_opened(job, manifest, environment))


async def _opened(job: JobConfig, manifest: Manifest, environment: Environment) -> str:
    from pipeline.images.load import open_images

    rows = await asyncio.to_thread(
        lambda: list(islice(chain.from_iterable(manifest.batches()), OPENED))
    )
    if not rows:
        return "the manifest is empty"
    failed = dict[str, list[str]]()
    async with open_images(
        job.images,
        folder=manifest.folder,
        boundary=boundary_of(job, manifest),
        clock=environment.clock,
        concurrency=job.quota.concurrency,
    ) as images:

        async def trouble(row: Row) -> ImageError | None:
            try:
                await images.load(row.image, inline=job.images.send != "url")
            except ImageError as error:
                return error
            return None

        for row, error in zip(rows, await asyncio.gather(*map(trouble, rows)), strict=True):
            if error is not None:
                name = "bytes" if isinstance(row.image, bytes) else str(row.image)[:NAME_CHARS]
                failed.setdefault(error.code, []).append(f"{name}: {error.message}")
    if not failed:
        return f"the first {len(rows)} can be opened"
    code, examples = max(failed.items(), key=lambda each: len(each[1]))
    count = sum(map(len, failed.values()))
    message = f"{count} of the first {len(rows)} cannot be opened ({code}: {examples[0]})"
    if (remedy := REMEDIES.get(code)) is not None:
        message += f"; {remedy}"
    if count < len(rows):
        return message
    raise ManifestError(message)
