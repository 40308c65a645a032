"""The job file as one frozen, checked value: the rooms' settings glued together.

Every error is one line: file, line, key, what is wrong, what to write instead. The whole contract
is parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationError, model_validator

from pipeline.checks.polish import PolishSettings
from pipeline.checks.settings import ChecksSettings, checks_trouble
from pipeline.config.allowed_paths import metrics_trouble, output_trouble
from pipeline.config.captioning import PackingSettings, PromptSettings, ReplySettings
from pipeline.config.endpoints import PoolEndpoint, endpoints_trouble, merged, model_of
from pipeline.config.env import environment, expand
from pipeline.config.messages import Schema, kinds, node_at, refusal
from pipeline.config.yaml import STRAY_KEY, Document, Mark, Place, fit, read_job, read_value
from pipeline.errors import UsageError
from pipeline.images.settings import ImageSettings
from pipeline.manifest.settings import ManifestSettings
from pipeline.ratelimit.settings import QuotaSettings, RetrySettings
from pipeline.redact import looks_like_key
from pipeline.service.settings import EndpointSettings
from pipeline.settings import Settings, section
from pipeline.store.settings import NotifySettings, OutputSettings, RunSettings


def _name(name: str) -> str:
    """It becomes a folder and part of file names."""
    if "/" in name or name.startswith(".") or len(name) > 200:
        raise ValueError("a name has no /, no dot in front, and at most 200 letters")
    return name


class JobConfig(Settings):
    """A whole job."""

    name: Annotated[str, AfterValidator(_name)] = ""
    """Name of the job; default: the file's stem."""
    manifest: ManifestSettings
    """The images."""
    prompt: PromptSettings = section()
    """What is asked."""
    images: ImageSettings = section()
    """How images are read and sent."""
    endpoint: EndpointSettings = section()
    """The service and the model."""
    endpoints: list[PoolEndpoint] = []
    """Several endpoints, each with its own quota: work goes where quota is left. `endpoint` and `quota` hold what they share."""
    endpoints_may_differ: bool = False
    """May they serve different models?"""
    i_own_these_quotas: bool = False
    """May several keys of one service be used?"""
    quota: QuotaSettings = section()
    """What may be asked of the service."""
    packing: PackingSettings = section()
    """How many images travel in one request."""
    retry: RetrySettings = section()
    """How often an image is asked again."""
    reply: ReplySettings = section()
    """What an answer holds."""
    checks: ChecksSettings = section()
    """What is looked for in captions."""
    polish: PolishSettings = section()
    """What captions look like in the dataset and in exports; answers stay as they came."""
    output: OutputSettings = section()
    """Where the results go."""
    run: RunSettings = section()
    """How a run behaves."""
    notify: NotifySettings = section()
    """Who is told."""

    @model_validator(mode="before")
    @classmethod
    def _shared(cls, values: Any) -> Any:
        """Each endpoint of a list is what `endpoint` and `quota` say, with its own keys over it."""
        return merged(values)


@cache
def schema() -> Schema:
    """The JSON Schema of the job file: what its keys may hold, for words and for editors."""
    return JobConfig.model_json_schema()


def load_job(
    path: Path, overrides: Iterable[str] = (), environ: Mapping[str, str] | None = None
) -> JobConfig:
    """Read and check a job file; JobError (78), UsageError (64) for what `--set` brought in."""
    return read_and_check(path, overrides, environ or {})[0]


def read_and_check(
    path: Path, overrides: Iterable[str], environ: Mapping[str, str]
) -> tuple[JobConfig, Document]:
    """The job, and the document that tells where each of its keys stands."""
    document = read_job(path)
    for override in overrides:
        _override(document, schema(), override)
    document = replace(document, values=expand(document, environ))
    try:
        job = JobConfig.model_validate(document.values)
    except ValidationError as error:
        raise refusal(document, schema(), error) from None
    name = job.name or path.stem
    output = job.output.path or f"out/{name}"
    job = job.model_copy(
        update={"name": name, "output": job.output.model_copy(update={"path": output})}
    )
    for place, trouble in (
        checks_trouble(job.checks, job.endpoint.fallback_models),
        (("endpoints",), endpoints_trouble(job)),
        (("output", "path"), output_trouble(output, path)),
        (("run", "metrics"), job.run.metrics and metrics_trouble(job.run.metrics, path)),
    ):
        if trouble:
            raise document.error(place, trouble)
    model = model_of(job)
    if model != job.endpoint.model:
        endpoint = job.endpoint.model_copy(update={"model": model})
        job = job.model_copy(update={"endpoint": endpoint})
    return job, document


def _override(document: Document, root: Schema, override: str) -> None:
    """Put `key.path=value` into the document; the value is typed by the schema."""
    key, equals, text = override.partition("=")
    place: Place = tuple(key.strip().split("."))
    if looks_like_key(override):
        raise UsageError(f"--set: {STRAY_KEY}")
    if not equals or not all(place):
        raise UsageError(f"--set {override}: write key.path=value")
    try:
        value, marks = _typed(kinds(root, node_at(root, place) or {}), text)
    except ValueError as error:
        raise UsageError(f"--set {key}: {error}") from None
    section = document.values
    for depth, name in enumerate(place[:-1], 1):
        inner = section.setdefault(str(name), {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {key}: {'.'.join(map(str, place[:depth]))} is no section")
        section = inner
        document.marks.setdefault(place[:depth], Mark(None))
    section[str(place[-1])] = value
    for position in [position for position in document.marks if position[: len(place)] == place]:
        del document.marks[position]
    document.marks.update({(*place, *position): mark for position, mark in marks.items()})


_JSON: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def _typed(accepted: set[str], text: str) -> tuple[Any, dict[Place, Mark]]:
    """The text of a `--set` as the type that its key takes: text stays text as it is."""
    plain: tuple[Any, dict[Place, Mark]] = (fit(text), {(): Mark(None, text)})
    only_text = bool(accepted) and accepted <= {"string", "null"}
    if only_text and text != "null" and text[:1] not in ("'", '"'):
        return plain
    try:
        value, marks = read_value(text)
    except ValueError:
        if "string" in accepted:
            return plain
        raise
    kind = "null" if value is None else _JSON[type(value)]
    fits = kind in accepted or (kind == "integer" and "number" in accepted)
    if "string" in accepted and not fits:
        return plain
    return value, marks


__all__ = ["JobConfig", "environment", "load_job", "read_and_check", "schema"]
