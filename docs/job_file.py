"""Make `docs/job-file.md`, the table of every key of a job file, from the settings themselves.

    python docs/job_file.py

A test holds the page against what this writes.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.commands.init import template

PAGE = Path(__file__).with_name("job-file.md")
HEAD = """\
# The job file

Made by `python docs/job_file.py` from the settings that are checked. YAML without aliases, tags and duplicate keys; an unknown
key is an error that names the nearest known one and the line. `${NAME}` and `${NAME:-default}` inside of text come from the
environment, keys of services never do: they stay there and are named by `endpoint.api_key_env`. Paths start at the
current folder. `--set key.path=value` overrides a key for one command; `python -m pipeline init` writes a file with all
keys, `python -m pipeline schema` its JSON Schema for editors. Durations may be written `30s`, `15m`, `2h`, sizes `500KB`, `1GB`. A key that is left out
has the value of this table; without `endpoint.model` the model is `google/gemini-flash-1.5-8b-exp`.

| key | as `init` writes it | what it is |
| --- | --- | --- |
"""
_LINE = re.compile(r"( *)(\w+):(?: +(?!#)(.*?))?(?: +# (.*))?")


def page() -> str:
    """The page: a row for each key of the template, in its order."""
    rows, above = [], list[str]()
    for line in template("job").splitlines():
        if (match := _LINE.fullmatch(line)) is None:
            continue
        depth, name = len(match[1]) // 2, match[2]
        above = [*above[:depth], name]
        cells = [f"`{'.'.join(above)}`", f"`{match[3]}`" if match[3] else "", match[4] or ""]
        rows.append(" | ".join(["", *(cell.replace("|", "\\|") for cell in cells), ""]).strip())
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
