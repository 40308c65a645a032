"""Local files that a manifest names: which of them may be read, and under what spelling.

Manifests come from other people and other systems. One that came over the network names no local
file; `images.root` opens its folder and nothing outside of it, links followed. A name that is not
there is looked for in the other normal form of Unicode (Macs write `ü` as two characters) and with
slashes for the backslashes of Windows.
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote_to_bytes, urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """What a manifest may name on this machine."""

    #: Nothing outside of this folder (`images.root`); None: any file.
    root: Path | None = None
    #: The manifest came over the network: no file at all, unless there is a root.
    remote: bool = False
    #: The manifest's own files, which it may name all the same (tar shards).
    own: frozenset[str] = frozenset()

    def refusal(self, path: Path | str) -> str | None:
        """Why this file is not read; None when it may be."""
        if str(path) in self.own:
            return None
        if self.root is None:
            return _REMOTE if self.remote else None
        inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root))
        return None if inside else "outside of images.root"


#: Any file may be named.
ANY = Boundary()
_REMOTE = (
    "a manifest that came over the network names no local file; images.root opens a folder to it"
)


def is_file_url(text: str) -> bool:
    """`file://…`, in any case."""
    return text[:7].lower() == "file://"


def of_file_url(url: str) -> str:
    """The path of a `file://` URL, whose escapes are bytes: names need not be UTF-8."""
    return os.fsdecode(unquote_to_bytes(urlsplit(url).path))


def respelled(base: Path, text: str) -> Path | None:
    """The file that `text` means in another spelling, below `base` unless absolute; None: there is
    none."""
    for spelling in dict.fromkeys((text, text.replace("\\", "/"))):
        path = base
        for part in PurePosixPath(spelling).parts:
            forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
            there = next((path / form for form in forms if os.path.lexists(path / form)), None)
            if there is None:
                break
            path = there
        else:
            return path
    return None
