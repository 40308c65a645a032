"""Local files that a manifest names: which of them may be read, and under what spelling.

Manifests come from other people and other systems. One that came over the network names no local
file; `images.root` opens its folder and nothing outside of it, links followed. A name that is not
there is looked for in the spellings that other systems and lists have for it (`respelled`).
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from pipeline.media import ENDINGS


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
    """`file:///path` or, as RFC 8089 allows, `file:/path`; in any case."""
    return text[:6].lower() == "file:/"


def of_file_url(url: str) -> str:
    """The path of a file URL, whose escapes are bytes: names need not be UTF-8."""
    return os.fsdecode(unquote_to_bytes(urlsplit(url).path))


#: The number of a caption behind a picture's name (Flickr8k, Flickr30k).
_CAPTION_NUMBER = re.compile(r"#\d{1,3}\Z")


def _spellings(text: str) -> Iterator[str]:
    """What a list may mean: itself, with slashes for the backslashes of Windows, without blanks and
    quotes around it, without the number of a caption behind it, with its URL escapes read."""
    yield text
    yield (text := text.replace("\\", "/"))
    yield (text := "/".join(part.strip(" \t\"'") for part in text.split("/")))
    yield _CAPTION_NUMBER.sub("", text)
    yield unquote(text)


def respelled(base: Path, text: str) -> Path | None:
    """The file that `text` means in another spelling or normal form of Unicode (Macs write `ü` as
    two characters), below `base` unless absolute; one without an ending may be the only picture of
    that name. None: there is none."""
    spellings = tuple(dict.fromkeys(_spellings(text)))
    for spelling in spellings:
        path = base
        for part in PurePosixPath(spelling).parts:
            forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
            there = next((path / form for form in forms if os.path.lexists(path / form)), None)
            if there is None:
                break
            path = there
        else:
            return path
    return next(filter(None, (_with_ending(base / spelling) for spelling in spellings)), None)


def _with_ending(path: Path) -> Path | None:
    """The one picture that has this name but for its ending."""
    if path.suffix.lower() in ENDINGS or not path.name:
        return None
    names = (f"{path.name}{case}" for end in ENDINGS for case in (end, end.upper()))
    there = [file for name in names if os.path.lexists(file := path.with_name(name))]
    return there[0] if len(there) == 1 else None
