"""Places that hold parts and no journal: a folder on a network file system, an object store.

A store is asked for little: put a whole file under a name, at once or not at all, read it, list
a folder. What a put answers is not believed, neither its success nor its failure (a lost answer
looks like both): what is read back decides.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from pipeline import fs
from pipeline.errors import JobError, OutputError

P = ParamSpec("P")
T = TypeVar("T")
#: Schemes that can be written, and the extra of this package that brings the driver.
SCHEMES = {"s3": "s3", "gs": "gcs"}
#: Seconds between tries. The drivers try a few times by themselves each time.
PAUSES = (0.1, 0.5, 2.0)


class Taken(Exception):
    """A name that was to be new is there already."""


class Store(Protocol):
    """What holds the parts. Every method may raise OSError."""

    #: As the user wrote it.
    shown: str

    def put(self, name: str, data: bytes, *, new: bool) -> None:
        """Put a file, whole or not at all. new: Taken when the name is there."""

    def put_file(self, name: str, source: Path) -> None:
        """The same with a file that may be large."""

    def read(self, name: str) -> bytes | None:
        """A file's bytes; None when there is none."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Names and sizes of a folder's files, without those that start with a dot."""

    def remove(self, name: str) -> None:
        """Take a file away."""


def scheme_of(address: str) -> str | None:
    """The scheme of an address, None for a folder; JobError (78) for one that cannot be written."""
    scheme, separator, _ = address.partition("://")
    if separator and scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise JobError(f"output.path: {scheme}:// cannot be written; a folder or {known}")
    return scheme if separator else None


def store_of(address: str) -> Store:
    """The store of an output's address; JobError (78) when it cannot be had."""
    scheme = scheme_of(address)
    return ObjectStore(address, scheme) if scheme else FolderStore(Path(address))


class FolderStore:
    """A folder on a shared file system: renames put a file in its place."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.shown = folder, str(folder)

    def put(self, name: str, data: bytes, *, new: bool) -> None:
        final = self._at(name)
        tmp = final.with_name(f".{final.name}.tmp")
        fs.write_tmp(tmp, data)
        if not new:
            fs.publish(tmp, final)
            return
        try:
            os.link(tmp, final)  # unlike a rename it never replaces what another host has put
        except FileExistsError:
            raise Taken(name) from None
        finally:
            tmp.unlink()
        fs.sync_dir(final.parent)

    def put_file(self, name: str, source: Path) -> None:
        final = self._at(name)
        tmp = final.with_name(f".{final.name}.tmp")
        shutil.copyfile(source, tmp)
        fs.sync_file(tmp)
        fs.publish(tmp, final)

    def read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def sizes(self, folder: str) -> dict[str, int]:
        sizes = {}
        with suppress(FileNotFoundError):
            for path in (self._folder / folder).iterdir():
                if path.is_file() and not path.name.startswith("."):
                    sizes[path.name] = path.stat().st_size
        return sizes

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def _at(self, name: str) -> Path:
        final = self._folder / name
        final.parent.mkdir(parents=True, exist_ok=True)
        return final


class ObjectStore:
    """A bucket, through fsspec: one put is one object, whole; a reader meets the old or the new."""

    def __init__(self, address: str, scheme: str) -> None:
        import fsspec

        self.shown = address
        try:
            # Listings are never held: what another host does must be seen.
            self._files, self._root = fsspec.core.url_to_fs(
                address.rstrip("/"), use_listings_cache=False, skip_instance_cache=True
            )
        except ImportError:
            message = f"{scheme}:// needs the extra {SCHEMES[scheme]}"
            raise JobError(
                f"output.path: {message}: pip install 'caption-pipeline[{SCHEMES[scheme]}]'"
            ) from None

    def put(self, name: str, data: bytes, *, new: bool) -> None:
        mode = "create" if new else "overwrite"
        try:
            self._ask(self._files.pipe_file, self._at(name), data, mode=mode)
        except FileExistsError:
            raise Taken(name) from None

    def put_file(self, name: str, source: Path) -> None:
        self._ask(self._files.put_file, str(source), self._at(name))
        size = self._ask(self._files.info, self._at(name))["size"]
        if size != source.stat().st_size:
            raise OSError(f"{name}: {size:,} bytes arrived of {source.stat().st_size:,}")

    def read(self, name: str) -> bytes | None:
        try:
            data: bytes = self._ask(self._files.cat_file, self._at(name))
        except FileNotFoundError:
            return None
        return data

    def sizes(self, folder: str) -> dict[str, int]:
        try:
            entries = self._ask(self._files.ls, self._at(folder), detail=True)
        except FileNotFoundError:
            return {}
        files = [entry for entry in entries if entry["type"] == "file"]
        names = {entry["name"].rpartition("/")[2]: entry["size"] for entry in files}
        return {name: size for name, size in names.items() if name and name[0] != "."}

    def remove(self, name: str) -> None:
        self._ask(self._files.rm_file, self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _ask(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the driver; whatever it raises comes out as an OSError."""
        try:
            return act(*args, **kwargs)
        except OSError:
            raise
        except Exception as error:  # every driver has errors of its own
            raise OSError(f"{type(error).__name__}: {error}") from error


def steadily(shown: str, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do it, and again after a pause when it fails; OutputError when it goes on failing."""
    for pause in (*PAUSES, None):
        try:
            return act(*args, **kwargs)
        except PermissionError as error:
            raise OutputError(f"{shown}: may not be used ({error})") from error
        except OSError as error:
            if pause is None:
                raise OutputError(f"{shown}: cannot be reached ({error})") from error
            time.sleep(pause)  # in a thread of its own, never on the loop
    raise AssertionError("the last try returns or raises")


def put_whole(store: Store, name: str, data: bytes, *, new: bool) -> None:
    """Put a file until what is read back is what was put; OutputError when it never is.

    new: nobody may have put another one under this name.
    """

    def once() -> None:
        trouble: Exception | None = None
        try:
            store.put(name, data, new=new)
        except PermissionError:
            raise
        except (Taken, OSError) as error:
            trouble = error  # or so it says: an earlier try may have come through
        stored = store.read(name)
        if stored == data:
            return
        if new and stored is not None:
            raise OutputError(
                f"{store.shown}/{name}: another writer has put this file; use another output.path"
            )
        raise OSError(f"{name}: {trouble or 'what was read back is not what was put'}")

    steadily(store.shown, once)
