"""`init` and `schema`: the job file explained, made from the settings themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from pipeline.config import JobConfig
from pipeline.errors import OutputError

_HEAD = """\
# A caption-pipeline job. Every key with its default; delete what you do not change.
# Check it with an editor that knows JSON Schema: caption-pipeline schema > job.schema.json
"""
#: Where the template says something more useful than the default.
_EXAMPLES = {"manifest.path": "images.csv"}


def schema_text() -> str:
    """JSON Schema (2020-12) of the job file."""
    schema = JobConfig.model_json_schema()
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:caption-pipeline:job:1",
        **schema,
        "title": "caption-pipeline job",
    }
    return json.dumps(schema, indent=2)


def init_command(dest: Path) -> int:
    """Write a commented job file; never over an existing one."""
    try:
        with dest.open("x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError:
        raise OutputError(f"{dest}: exists already; name another file") from None
    except OSError as error:
        raise OutputError(f"{dest}: {error.strerror}") from None
    print(f"{dest}: written; set manifest.path and endpoint, then run it")  # noqa: T201
    return 0


def template() -> str:
    """The commented job file."""
    return _HEAD + "\n".join(_section(JobConfig, "", 0)) + "\n"


def _section(model: type[BaseModel], prefix: str, depth: int) -> list[str]:
    lines = []
    pad = "  " * depth
    for name, field in model.model_fields.items():
        if name == "endpoints" and not depth:
            continue  # the list form of `endpoint`
        words = (field.description or "").strip()
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            lines += [f"{pad}{name}:  # {words}", *_section(inner, f"{prefix}{name}.", depth + 1)]
            continue
        default: Any = _EXAMPLES.get(prefix + name, field.get_default(call_default_factory=True))
        if name in ("name", "path") and default == "":
            lines.append(f"{pad}# {name}:  # {words}")
            continue
        value = yaml.safe_dump(default, default_flow_style=True, width=10_000).strip()
        value = value.removesuffix("...").strip()
        lines.append(f"{pad}{name}: {value}  # {words}")
    return lines
