"""`model: auto:free-vision`: the program chooses the model once, and keeps to it.

The model is part of every image's identity, so the choice is written into the output before the
first key is made, and each later run reads it there. It changes only when the model is no longer
fit (gone, blind, or no longer free) and the user has said `--yes`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from pipeline import fs
from pipeline.clock import iso
from pipeline.errors import OutputError, ServiceError
from pipeline.service.models import free_vision, named
from pipeline.service.profiles import PROFILES
from pipeline.service.settings import AUTO

if TYPE_CHECKING:
    from pipeline.captioning.inputs import Environment
    from pipeline.config.job import JobConfig
    from pipeline.service.models import Model

PIN = "model.json"
#: Models named in a message.
NAMED = 10
__all__ = ["AUTO", "is_auto", "pin", "pinned", "settled"]
_log = logging.getLogger("pipeline")


def is_auto(job: JobConfig) -> bool:
    """Is the model for this program to choose?"""
    return job.endpoint.model == AUTO


def pinned(job: JobConfig) -> JobConfig:
    """The job with the model that a run chose before; as it is where there is none to put in."""
    model = _read(Path(job.output.path)) if is_auto(job) else None
    return job if model is None else _with(job, model)


async def settled(job: JobConfig, environment: Environment) -> JobConfig:
    """The job with the model that a run would use now; nothing is written. ServiceError 69."""
    model = pinned(job)
    return (
        _with(model, _best(model, await _listed(model, environment), environment))
        if is_auto(model)
        else model
    )


async def pin(job: JobConfig, environment: Environment, *, yes: bool) -> JobConfig:
    """The job with its model, chosen and written down where that is still to do.

    yes: let another take the place of one that is no longer fit. The output is held by the
    caller. ServiceError 69 when there is none to choose.
    """
    if not is_auto(job):
        return job
    output = Path(job.output.path)
    before = _read(output)
    if before is not None and not yes:
        return _with(job, before)
    models = await _listed(job, environment)
    if (
        before is not None
        and (model := named(models, before))
        and model.takes_images
        and model.free
    ):
        return _with(job, before)
    best = _best(job, models, environment)
    _write(output, best, environment)
    reason = f"in place of {before}, which is no longer fit" if before else "and keeps to it"
    _log.info("%s: %s chose %s %s", job.name, AUTO, best, reason)
    return _with(job, best)


async def _listed(job: JobConfig, environment: Environment) -> list[Model]:
    from pipeline.commands.models import listed  # brings the HTTP client, which `status` needs not

    return await listed(job, environment.environ, environment)


def _best(job: JobConfig, models: list[Model], environment: Environment) -> str:
    """The model that AUTO means here; on a server of one's own that tells no prices the only one."""
    best = free_vision(models, now=environment.clock.now())
    if best is not None:
        return best.id
    if PROFILES[job.endpoint.profile].key_env is not None:
        raise ServiceError(
            f"{AUTO}: the service lists no free model that takes images and lasts 30 days; name "
            "one in endpoint.model (python -m pipeline models JOB lists them)"
        )
    if len(models) == 1:
        return models[0].id
    names = ", ".join(model.id for model in models[:NAMED])
    raise ServiceError(
        f"{AUTO}: the server lists {len(models)} models; name one in endpoint.model: {names}"
        + ", …" * (len(models) > NAMED)
    )


def _with(job: JobConfig, model: str) -> JobConfig:
    return job.model_copy(update={"endpoint": job.endpoint.model_copy(update={"model": model})})


def _read(output: Path) -> str | None:
    path = output / "_state" / PIN
    try:
        model = orjson.loads(path.read_bytes())["model"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError):
        model = None
    if not isinstance(model, str) or not model:
        raise OutputError(
            f"{path}: cannot be read; write the model of the captions here into endpoint.model"
        )
    return model


def _write(output: Path, model: str, environment: Environment) -> None:
    path = output / "_state" / PIN
    choice = {"asked": AUTO, "model": model, "chosen_at": iso(environment.clock.now())}
    try:
        fs.write_atomic(path, orjson.dumps(choice), private=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
