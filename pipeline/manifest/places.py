"""Where a manifest's files are: file, glob, list, folder or URL, resolved to `Place`s in order.

A name that exists is taken as it stands, also when it holds glob characters. A glob is sorted,
so that row order does not depend on the file system. URLs go through fsspec, whose drivers for
s3, gs and hf are extras. Errors show a URL without its query, which may hold a signature.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from pipeline.errors import ManifestError
from pipeline.manifest.file_names import is_image, left_out
from pipeline.patterns import lazy

_URL = lazy(r"[A-Za-z][A-Za-z0-9+.-]*://")
_GLOB = lazy(r"[*?\[]")
#: URL scheme -> extra of this package that reads it.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "hf": "hf"}
_SPOOL = 1 << 20
#: What stands beside pictures and is no manifest.
_BESIDE = (".txt", ".json", ".caption", ".xmp")
#: What drivers tell of a remote file that changes with its content.
_VALIDATORS = (
    *("ETag", "etag", "Content-MD5", "Digest", "md5Hash", "crc32c"),
    *("Last-Modified", "LastModified", "last_modified", "mtime"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """One file or folder of a manifest."""

    #: Path or full URL.
    name: str
    #: None for a URL.
    path: Path | None
    folder: bool
    size: int | None
    #: What changes when the content does: mtime and inode, ETag or the like; empty: nothing does.
    stamp: str
    #: Of a folder: the pictures to take, as a glob from it down; None: all.
    pattern: str | None = None

    @property
    def shown(self) -> str:
        """The name as messages show it."""
        return shown(self.name)

    def open(self) -> BinaryIO:
        """The raw bytes, seekable."""
        try:
            if self.path is not None:
                return self.path.open("rb")
            return _open_url(self.name)
        except Exception as error:
            raise unreadable(self.name, error) from error


def shown(name: str) -> str:
    """A path as it is; a URL without user, query and fragment."""
    if not is_url(name):
        return name
    return re.sub(r"://[^/@]*@", "://", re.split(r"[?#]", name, maxsplit=1)[0])


def is_url(name: str) -> bool:
    """Does the name start with a scheme and `://`?"""
    return _URL.match(name) is not None


def is_remote(name: str) -> bool:
    """Is this on another machine?"""
    return is_url(name) and not name.lower().startswith(("file://", "local://"))


def unreadable(name: str, error: BaseException) -> ManifestError:
    """One clear line for a file that cannot be opened or read."""
    if isinstance(error, ManifestError):
        return error
    name = shown(name)
    if isinstance(error, FileNotFoundError):
        return ManifestError(f"manifest {name}: no such file; check manifest.path")
    if isinstance(error, PermissionError):
        return ManifestError(f"manifest {name}: permission denied; make it readable")
    if isinstance(error, ImportError):
        extra = _EXTRAS.get(name.partition("://")[0])
        if extra:
            return ManifestError(
                f"manifest {name}: needs an extra; pip install 'caption-pipeline[{extra}]'"
            )
    message = " ".join(str(error).split())[:200] or type(error).__name__
    return ManifestError(f"manifest {name}: cannot be read: {shown(message)}")


def resolve(path: str | list[str]) -> list[ManifestFile]:
    """Every file or folder that `manifest.path` names, in order; ManifestError on a missing one."""
    names = [path] if isinstance(path, str) else path
    if not names or not all(names):
        raise ManifestError("manifest.path is empty; name a file, glob, folder or URL")
    places: list[ManifestFile] = []
    for name in names:
        try:
            files = list(_remote(name) if is_url(name) else _local(name))
        except Exception as error:
            raise unreadable(name, error) from error
        if not files:
            raise ManifestError(f"manifest {shown(name)}: no file matches; check manifest.path")
        places += files
    return places


def _local(name: str) -> Iterable[ManifestFile]:
    expanded = os.path.expanduser(name)  # noqa: PTH111 - the name may be a glob
    if os.path.lexists(expanded) or not _GLOB.search(expanded):
        path = Path(expanded)
        if is_image(name) and path.is_file():
            yield _pictures(path.parent, glob.escape(path.name), name)
        else:
            yield local_place(path, name)
        return
    matches = sorted(glob.glob(expanded, recursive=True))  # noqa: PTH207 - absolute globs too
    files = [match for match in matches if os.path.isfile(match)]  # noqa: PTH113 - many of them
    if any(map(is_image, files)) and all(is_image(f) or f.endswith(_BESIDE) for f in files):
        folder, pattern = _split(expanded)
        yield _pictures(folder, pattern, name)
        return
    for match in files or [match for match in matches if not left_out(os.path.basename(match))]:  # noqa: PTH119
        yield local_place(Path(match), match)


def _split(pattern: str) -> tuple[Path, str]:
    """The folders of a glob that hold no `*`, and the rest of it."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if _GLOB.search(part))
    folder = "/".join(parts[:first])
    return Path(folder or ("/" if first else ".")), "/".join(parts[first:])


def _pictures(folder: Path, pattern: str, name: str) -> ManifestFile:
    return replace(local_place(folder, name), pattern=pattern)


def local_place(path: Path, name: str | None = None) -> ManifestFile:
    """The place of a local file or folder; raises OSError."""
    facts = path.stat()
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        raise ManifestError(
            f"manifest {name or path}: is a pipe, socket or device; plain files only, as it is read "
            "more than once: write it to a file"
        )
    return ManifestFile(
        name=name if name is not None else str(path),
        path=path,
        folder=path.is_dir(),
        size=facts.st_size,
        stamp=f"{facts.st_mtime_ns} {facts.st_ino}",
    )


def _remote(name: str) -> Iterable[ManifestFile]:
    import fsspec

    fs, inner = fsspec.core.url_to_fs(name)
    globbed = _GLOB.search(inner.partition("?")[0] if name.startswith("http") else inner)
    inners = sorted(fs.glob(inner)) if globbed else [inner]
    for inner_name in inners:
        yield _remote_place(
            fs, name if inner_name == inner else str(fs.unstrip_protocol(inner_name)), inner_name
        )


def _remote_place(fs: Any, name: str, inner: str) -> ManifestFile:
    facts: dict[str, Any] = fs.info(inner)
    return ManifestFile(
        name=name,
        path=None,
        folder=facts.get("type") == "directory",
        size=facts.get("size"),
        stamp=" ".join(f"{key}={facts[key]}" for key in _VALIDATORS if facts.get(key)),
    )


def current(place: ManifestFile) -> ManifestFile:
    """The place as it is now; ManifestError when it is gone."""
    try:
        if place.path is not None:
            return local_place(place.path, place.name)
        import fsspec

        fs, inner = fsspec.core.url_to_fs(place.name)
        fs.invalidate_cache()
        return _remote_place(fs, place.name, inner)
    except Exception as error:
        raise unreadable(place.name, error) from error


def children(place: ManifestFile) -> list[ManifestFile]:
    """The files directly inside a folder, sorted by name, hidden ones left out."""
    if place.path is not None:
        inside = sorted(p for p in place.path.iterdir() if not p.name.startswith("."))
        return [local_place(p) for p in inside if p.is_file()]
    import fsspec

    fs, inner = fsspec.core.url_to_fs(place.name)
    names = [e["name"] for e in fs.ls(inner, detail=True) if e.get("type") == "file"]
    urls = [str(fs.unstrip_protocol(n)) for n in sorted(names)]
    return [p for url in urls for p in _remote(url) if not url.rpartition("/")[2].startswith(".")]


def _open_url(name: str) -> BinaryIO:
    """A seekable file for a URL; a server without byte ranges is copied to a temporary file."""
    import fsspec

    fs, inner = fsspec.core.url_to_fs(name)
    file = fs.open(inner, "rb")
    if file.seekable():
        return cast("BinaryIO", file)
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - handed to the caller
    with file:
        while chunk := file.read(_SPOOL):
            copy.write(chunk)
    copy.seek(0)
    return cast("BinaryIO", copy)
