"""Picture files for the formats that carry them: from bytes, local files, packages, and from
wherever the caller can find more (members of tar shards, downloads that were kept).

Nothing is downloaded here: an export must not depend on the network, so a picture that is a URL
is an error that names the formats without pictures.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath

from pipeline.errors import OutputError, UsageError
from pipeline.local_files import ANY, Boundary, is_file_url, of_file_url, respelled
from pipeline.picture_cell import bytes_of_data_uri

#: The ending of what is none.
NO_PICTURE = ".bin"
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n", ".png"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Where the pictures of a manifest are."""

    #: The image column.
    column: str
    #: Base of relative paths; None: there is none (a remote manifest).
    root: Path | None = None
    #: Which local files may be read at all.
    boundary: Boundary = ANY
    #: Packages that `package://` may read.
    packages: tuple[str, ...] = ()
    #: Bytes of a `tar://` member or of a download that was kept; None: not here either.
    elsewhere: Callable[[str], bytes | None] = lambda _: None

    def read(self, cell: object) -> bytes:
        """The picture's own bytes. UsageError when they are not on this machine."""
        if isinstance(cell, bytes):
            return cell
        if isinstance(cell, Mapping):
            content = cell.get("bytes")
            if isinstance(content, bytes) and content:
                return content
            return self.read(cell["path"])
        text = cell if isinstance(cell, str) else ""
        if text[:5].lower() == "data:":
            if (content := bytes_of_data_uri(text)) is None:
                raise OutputError(f"picture {text[:40]}…: a broken data URI")
            return content
        if "://" in text and not (is_file_url(text) or text.startswith("package://")):
            if (content := self.elsewhere(text)) is not None:
                return content
            raise UsageError(
                f"this format holds the picture files, and {text.partition('?')[0][:100]} is not on "
                "this machine; export parquet, jsonl or csv, set images.cache and run again with "
                "images.send: inline, or make a manifest of local files"
            )
        try:
            try:
                file = FileIO(self._named(text))
            except (FileNotFoundError, NotADirectoryError):
                file = FileIO(self.path(text))
            with file:
                return file.readall()
        except OSError as error:
            raise OutputError(f"picture {text[:200]}: {error.strerror}") from error

    def path(self, text: str) -> Path:
        """The picture's own file, in whatever spelling it is there. UsageError where it is none of
        this machine, OutputError where it may not be read."""
        path = self._named(text)
        if not os.path.lexists(path) and (other := respelled(Path("/"), os.path.abspath(path))):  # noqa: PTH100 - keeps the spelling
            path = str(other)
            self._check(path, text)
        return Path(path)

    def _named(self, text: str) -> str:
        """Where the text leads as it is written."""
        if text.startswith("package://"):
            return str(self._package(text))
        if is_file_url(text):
            text = of_file_url(text)
        if "\0" in text:
            raise OutputError("picture: a NUL byte in its name")
        # Path.expanduser fails for `~x.jpg` where no user is called so; it is a file's name then.
        path = os.path.expanduser(text)  # noqa: PTH111
        if self.root is not None:
            path = os.path.join(self.root, path)  # noqa: PTH118 - a third of a Path's time
        elif path[:1] != "/":
            raise UsageError(f"picture {text[:200]}: a relative path without images.root")
        self._check(path, text)
        return path

    def _check(self, path: str, text: str) -> None:
        if (refusal := self.boundary.refusal(path)) is not None:
            raise OutputError(f"picture {text[:200]}: {refusal}")

    def file(self, cell: object) -> Path | None:
        """The file that is the picture; None where there is none on this machine.

        Of `{bytes, path}` the file counts only where it holds the same bytes: the path is where
        the picture once was, and another one may be there.
        """
        content = None
        if isinstance(cell, Mapping):
            content, cell = cell.get("bytes"), cell.get("path")
        text = cell if isinstance(cell, str) else ""
        web = "://" in text and not is_file_url(text)
        bare = text[:1] not in ("/", "~") and not is_file_url(text) and self.root is None
        if not text or web or bare or "\0" in text or text[:5].lower() == "data:":
            return None
        path = self.path(text)
        try:
            return path if not content or path.read_bytes() == content else None
        except OSError:
            return None

    def _package(self, text: str) -> Path:
        """The file inside an installed package, found without importing it."""
        package, _, inner = text.removeprefix("package://").partition("/")
        parts = PurePosixPath(inner).parts
        if package not in self.packages or ".." in parts:
            raise UsageError(f"picture {text[:200]}: {package!r} is not in images.packages")
        spec = importlib.util.find_spec(package)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        if not folders:
            raise OutputError(f"picture {text[:200]}: the package {package!r} is not installed")
        return Path(folders[0], *parts)


def ending(picture: bytes) -> str:
    """The file ending that fits the bytes, of which the first 24 are enough."""
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return ".webp"
    if picture[4:8] == b"ftyp":
        return ".avif" if b"avif" in picture[8:24] else ".heic"
    return next((end for magic, end in _SIGNATURES if picture.startswith(magic)), NO_PICTURE)
