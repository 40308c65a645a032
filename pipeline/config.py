"""The job file as one frozen, checked value: the rooms' settings glued together.

Every error is one line: file, line, key, what is wrong, what to write instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from pipeline.api.settings import EndpointSettings
from pipeline.checkpoint.settings import NotifySettings, OutputSettings, RunSettings
from pipeline.errors import JobError, UsageError
from pipeline.images.settings import ImageSettings
from pipeline.jobfile import Lines, Misplaced, Place, expand, read_env_file, read_job
from pipeline.manifest.settings import ManifestSettings
from pipeline.plan.settings import PackingSettings, PromptSettings, ReplySettings
from pipeline.quota.settings import QuotaSettings, RetrySettings
from pipeline.settings import Settings


class JobConfig(Settings):
    """A whole job."""

    name: str = Field(default="", max_length=200)
    """Name of the job; default: the file's stem."""
    manifest: ManifestSettings
    """The images."""
    prompt: PromptSettings = PromptSettings()
    """What is asked."""
    images: ImageSettings = ImageSettings()
    """How images are read and sent."""
    endpoint: EndpointSettings = EndpointSettings()
    """The service and the model."""
    endpoints: list[EndpointSettings] = []
    """Several services, each with its own quota."""
    quota: QuotaSettings = QuotaSettings()
    """What may be asked of the service."""
    packing: PackingSettings = PackingSettings()
    """How many images travel in one request."""
    retry: RetrySettings = RetrySettings()
    """How often an image is asked again."""
    reply: ReplySettings = ReplySettings()
    """What an answer holds."""
    output: OutputSettings = OutputSettings()
    """Where the results go."""
    run: RunSettings = RunSettings()
    """How a run behaves."""
    notify: NotifySettings = NotifySettings()
    """Who is told."""


#: Keys whose work this version does not do yet: refused when set to anything but the default.
#: (key, what stands for the default) -> the reason.
NOT_YET: dict[str, tuple[Any, ...]] = {
    "endpoints": ([],),
    "reply.fields": ({},),
    "run.engine": ("local",),
    "run.metrics": (None,),
    "notify.url": (None,),
    "packing.audit": (0, 0.0),
    "images.identity": ("auto", "column"),
}
_NOT_YET_VALUES: dict[str, str] = {
    "packing.images_per_request": "auto",
    "endpoint.model": "auto:free-vision",
}


def load_job(
    path: Path, overrides: Iterable[str] = (), environ: Mapping[str, str] | None = None
) -> JobConfig:
    """Read and check a job file; JobError (78), UsageError (64) for a broken `--set`."""
    values, lines = read_job(path)
    for override in overrides:
        _override(values, override)
    try:
        values = expand(values, environ or {})
    except Misplaced as error:
        raise JobError(f"{_where(path, error.place, lines)}: {error.words}") from None
    try:
        job = JobConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=True)[0]
        raise JobError(_words(path, first, lines)) from None
    name = job.name or path.stem
    output = job.output.path or f"out/{name}"
    job = job.model_copy(
        update={"name": name, "output": job.output.model_copy(update={"path": output})}
    )
    _available(path, job, lines)
    return job


def environment(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment, with the folder's `.env` behind it."""
    return {**read_env_file(folder / ".env"), **environ}


def _override(values: dict[str, Any], override: str) -> None:
    """`--set key.path=value`; the value is read as YAML and typed by the schema."""
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise UsageError(f"--set {override}: write key.path=value")
    try:
        value = yaml.safe_load(text) if text.strip() else ""
    except yaml.YAMLError:
        raise UsageError(f"--set {key}: this value is not YAML") from None
    for name in names[:-1]:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {key}: {name} is not a section")
        values = inner
    values[names[-1]] = value


def _available(path: Path, job: JobConfig, lines: Lines) -> None:
    """JobError for a key whose work is not in this version."""
    for key, defaults in NOT_YET.items():
        value = _value(job, key)
        if value in defaults or (key == "images.identity" and str(value).startswith("column:")):
            continue
        raise JobError(f"{_where(path, _place(key), lines)}: not available in this version")
    for key, refused in _NOT_YET_VALUES.items():
        if _value(job, key) == refused:
            raise JobError(
                f"{_where(path, _place(key), lines)}: {refused!r} is not available in this version"
            )
    if "://" in job.output.path:
        raise JobError(
            f"{_where(path, _place('output.path'), lines)}: a URL is not available in this version; "
            "name a local folder"
        )


def _place(key: str) -> Place:
    return tuple(key.split("."))


def _value(job: JobConfig, key: str) -> Any:
    value: Any = job
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _where(path: Path, place: Place, lines: Lines) -> str:
    """`job.yaml:12: images.max_side`, with the nearest line that is known."""
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)
    dotted = ".".join(str(one) for one in place)
    return f"{path}{f':{line}' if line else ''}: {dotted}"


def _words(path: Path, error: ErrorDetails, lines: Lines) -> str:
    """One line for one validation error."""
    # Union members stand in the location as tags; only real keys and indices are shown.
    place = tuple(one for one in error["loc"] if not (isinstance(one, str) and _is_tag(one)))
    kind = error["type"]
    where = _where(path, place, lines)
    if kind == "extra_forbidden":
        known = _keys_at(place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, 1)
        hint = f", did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
        return f"{where}: unknown key{hint}"
    if kind == "missing":
        return f"{where}: missing; every job needs it"
    found = error["input"]
    shown = f"{type(found).__name__} {found!r}" if isinstance(found, int | float | bool) else ""
    if isinstance(found, str):
        shown = f"the text {found[:40]!r}"
    elif found is None:
        shown = "nothing"
    elif isinstance(found, dict):
        shown = "a section"
    elif isinstance(found, list):
        shown = "a list"
    message = error["msg"].removeprefix("Value error, ")
    hint = ""
    if isinstance(found, str) and kind in ("int_type", "float_type") and "e" in found.lower():
        hint = "; YAML reads 1e6 as text: write 1000000"
    return f"{where}: {message[:1].lower()}{message[1:]}, found {shown}{hint}"


def _is_tag(one: str) -> bool:
    return one.startswith(("literal[", "function-", "constrained-", "list[")) or one in (
        "int",
        "float",
        "str",
    )


def _keys_at(place: Place) -> list[str]:
    """The keys that a section knows."""
    model: Any = JobConfig
    for name in place:
        if isinstance(name, int):
            continue
        field = model.model_fields.get(name)
        if field is None:
            return []
        inner = field.annotation
        for one in getattr(inner, "__args__", ()):
            if isinstance(one, type) and issubclass(one, BaseModel):
                inner = one
        model = inner
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return list(model.model_fields)
