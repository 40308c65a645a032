"""`init` and `schema`: the job file explained, made from the settings themselves.

Keys, defaults and words all come from the `settings.py` of the rooms, so neither can drift from
what is checked.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.job import JobConfig, schema
from pipeline.config.messages import branches, node_at
from pipeline.errors import OutputError, UsageError
from pipeline.redact import looks_like_key
from pipeline.service.profiles import PROFILES
from pipeline.service.settings import AUTO
from pipeline.settings import Settings

_HEAD = """\
# A caption-pipeline job: every key that may be set. Set manifest.path and endpoint, and delete
# what you leave as it is. Text may hold ${NAME} or ${NAME:-default} from the environment; the API
# key stays there (or in .env) and is only named, by endpoint.api_key_env.
# For completion and checks while you type: caption-pipeline schema > job.schema.json, and above
# this line: # yaml-language-server: $schema=job.schema.json

"""
#: Defaults that people write in another way than they are kept; a test holds them equal.
AS_WRITTEN: dict[str, Any] = {"endpoint.patience": "15m", "run.min_free": "256MB"}
#: Where a profile has no catalogue to choose a model from, or no address.
_OF_PROFILE: dict[str, dict[str, Any]] = {
    "embedded": {"endpoint.model": "embedded/pixels"},
    "azure": {
        "endpoint.model": "deployment",
        "endpoint.base_url": "https://RESOURCE.openai.azure.com/openai/v1",
    },
    "llamacpp": {"endpoint.model": "path/model.gguf", "endpoint.mmproj": "path/mmproj.gguf"},
}
_PLAIN = re.compile(r"\w[\w .+-]{0,99}")
#: Comments of a section start here, or after its longest line.
_COLUMN = 36


def schema_text() -> str:
    """JSON Schema (2020-12) of the job file."""
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:caption-pipeline:job:1",
        **deepcopy(schema()),
        "title": "caption-pipeline job",
    }
    return json.dumps(whole, indent=2)


def init_command(dest: Path, *, profile: str | None = None, images: str | None = None) -> int:
    """Write a commented job file; never over an existing one.

    profile: the service, a name of PROFILES (UsageError 64 for another); images: the manifest.
    OutputError (73) when it cannot be written.
    """
    if profile is not None and profile not in PROFILES:
        raise UsageError(f"--profile {profile}: no such service; there are {', '.join(PROFILES)}")
    text = template(dest.stem, profile=profile, images=images)
    try:
        with dest.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                with suppress(OSError):
                    dest.unlink()
                raise
    except FileExistsError:
        raise OutputError(f"{dest}: exists already; name another file") from None
    except OSError as error:
        raise OutputError(f"{dest}: cannot be written ({error.strerror})") from None
    left = [*(["manifest.path"] * (images is None)), *(["endpoint"] * (profile is None))]
    if profile is not None and profile != "embedded":
        left += _OF_PROFILE.get(profile, ())
    todo = f"set {' and '.join(left)}, then " if left else ""
    print(f"{dest}: written; {todo}python -m pipeline check {dest}, then run")  # noqa: T201
    return 0


def template(stem: str, *, profile: str | None = None, images: str | None = None) -> str:
    """The commented job file, named after its file where that is a name."""
    name = stem if _PLAIN.fullmatch(stem) and not looks_like_key(stem) else "job"
    written = {
        **AS_WRITTEN,
        "name": name,
        "manifest.path": images or "images.csv",
        "endpoint.profile": profile or "openrouter",
        "endpoint.model": AUTO,
        **_OF_PROFILE.get(profile or "", {}),
        "output.path": f"out/{name}",
    }
    return _HEAD + "\n".join(_section(JobConfig, "", written)) + "\n"


def _section(model: type[Settings], above: str, written: dict[str, Any]) -> list[str]:
    """The lines of one section: `key: default  # what it is`, subsections indented."""
    lines: list[tuple[str, str]] = []
    inner: list[str]
    section: list[str] = []
    descriptions = model.descriptions()
    for key, field in model.model_fields.items():
        comment = _comment(above + key, descriptions.get(key, ""))
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            inner = _section(kind, f"{above}{key}.", written)
            if not inner:
                continue
            section += _aligned(lines)
            lines = []
            section += [
                f"{key}:  # {comment}" if comment else f"{key}:",
                *(f"  {line}" for line in inner),
            ]
            continue
        default = field.get_default(call_default_factory=True)
        lines.append((f"{key}: {_yaml(written.get(above + key, default))}", comment))
    return section + _aligned(lines)


def _comment(key: str, text: str) -> str:
    """What a key is, and the choices where there are just a few."""
    node = node_at(schema(), tuple(key.split("."))) or {}
    choices = [str(choice) for part in branches(schema(), node) for choice in part.get("enum", ())]
    listed = f": {', '.join(choices)}" if choices else ""
    return text.rstrip(".") + listed


def _aligned(lines: list[tuple[str, str]]) -> list[str]:
    column = max([_COLUMN, *(len(line) + 2 for line, _ in lines)])
    return [f"{line:<{column}}# {comment}" if comment else line for line, comment in lines]


def _yaml(value: Any) -> str:
    """A value as it is written on one line."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.strip().removesuffix("...").strip()
