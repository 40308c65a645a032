"""Make `docs/parts.md`, the libraries that the program is made of and their licences.

    python docs/parts.py

From `pyproject.toml` and the metadata of what is installed. A test holds the page against it.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/parts.md"
#: Extras that a user installs; `test` is for developers.
EXTRAS = ("demo", "fast", "heif", "language", "s3", "gcs", "hf", "llama")
HEAD = """\
# Parts

Made by `python docs/parts.py`. What `pip install caption-pipeline` brings, and what each extra adds; each of them has parts of its own.
The program itself is under the MIT licence.

| library | comes with | licence |
| --- | --- | --- |
"""
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
#: Licences of which the installed metadata holds the whole text, or that are not installed by `test`.
_KNOWN = {"gcsfs": "BSD-3-Clause"}


def parts() -> dict[str, str]:
    """Library -> what it comes with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    places = {"the program": project["dependencies"]}
    places |= {f"`{extra}`": project["optional-dependencies"][extra] for extra in EXTRAS}
    named: dict[str, str] = {}
    for place, requirements in places.items():
        for requirement in requirements:
            match = _NAME.match(requirement)
            assert match is not None, requirement
            named.setdefault(match[0], place)
    return named


def licence(name: str) -> str:
    """As its metadata says it: an SPDX expression, else the classifier, else a short text."""
    if name in _KNOWN:
        return _KNOWN[name]
    facts = metadata(name)
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in facts.get_all("Classifier") or ()
        if line.startswith("License :: ")
    ]
    text = facts.get("License-Expression") or ", ".join(classifiers) or facts.get("License") or ""
    return text.splitlines()[0] if text else "see its package"


def page() -> str:
    """The page, by place and name."""
    rows = [f"| {name} | {place} | {licence(name)} |" for name, place in parts().items()]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
