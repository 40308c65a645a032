"""Tar files kept open, with an index each, so that a member is one seek and not a search.

A shard is scanned once for where its members lie. A compressed one has no places to seek to: it
is unpacked once into an unnamed temporary file. Only the few shards used last stay open. One that
was rewritten or replaced is opened anew: by its old index a member would be another one's bytes.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import tempfile
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.errors import ImageError, SourceUnavailable
from pipeline.images.outage import machine_trouble
from pipeline.images.sources.base import Places, brief, check_size, scheme_of
from pipeline.images.sources.file import not_read, open_plain, remember
from pipeline.images.sources.remote import open_remote, remote_trouble, shown

#: Shards open at once.
OPEN = 4
#: What a compressed shard may unpack to.
MAX_UNPACKED = 16 * 2**30
_CHUNK = 1 << 20
#: Times that a shard is opened for one member while it is being written.
TRIES = 3
#: What tar and its compressions say of a file that is cut or is none; some say so by an OSError
#: without errno.
_DAMAGED = (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, ValueError)
_BARE = (OSError, gzip.BadGzipFile)
#: How a header's name is read.
_NAMES = ("utf-8", "surrogateescape")
_PACKED: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ\x00", lzma.open),
)


@dataclass(frozen=True, slots=True)
class _Shard:
    """One open tar file."""

    file: IO[bytes]
    #: Member -> where its headers start, where its bytes do, and how many they are.
    index: dict[str, tuple[int, int, int]]
    #: What changes when a local file does; empty: a remote one.
    version: tuple[int, ...]

    def read(self, name: str, member: str) -> bytes:
        place = self.index.get(member)
        if place is None:
            raise ImageError("missing_file", f"{name} has no member {brief(member)}")
        _, start, size = place
        check_size(brief(member), size)
        self.file.seek(start)
        data = self.file.read(size)
        if len(data) != size:
            raise ImageError("corrupt", f"{name} ends inside {brief(member)}")
        return data

    def moved(self, name: str, member: str) -> bool:
        """Is this no longer the file that the index was made from? Of a remote one: does another
        member stand there?"""
        if self.version:
            return _version(os.stat(name)) != self.version
        head, start, _ = self.index.get(member, (0, 0, 0))
        if start - head != tarfile.BLOCKSIZE:
            return False  # a long name is not in its header
        self.file.seek(head)
        try:
            there = tarfile.TarInfo.frombuf(self.file.read(start - head), *_NAMES)
        except tarfile.HeaderError:
            return True
        return there.name != member

    def close(self) -> None:
        with suppress(Exception):  # of a link that is gone
            self.file.close()


class Shards:
    """The shards of a run. Called from several threads, one at a time."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Shard] = OrderedDict()
        # Also while reading: a file has one position, and may be closed to make room.
        self._lock = threading.Lock()

    def read(self, name: str, member: str, places: Places) -> bytes:
        """A member's bytes; ImageError `missing_file`, `corrupt`, `connect`…"""
        with self._lock:
            for _ in range(TRIES):
                shard = self._open.get(name)
                if shard is None:
                    shard = _opened(name, places)
                    self._open[name] = shard
                self._open.move_to_end(name)
                while len(self._open) > OPEN:
                    self._open.popitem(last=False)[1].close()
                try:
                    data = _unless_moved(shard, name, member)
                except ImageError:
                    raise
                except Exception as error:  # noqa: BLE001 - every fsspec driver has errors of its own
                    # A file that was open when its disk or its link went never works again.
                    self._open.pop(name).close()
                    raise _not_read(name, error, places) from None
                if data is not None:
                    return data
                self._open.pop(name).close()
        raise SourceUnavailable(
            "connect", f"{shown(name)}: is being written", place=name, certain=False
        )

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            for shard in self._open.values():
                shard.close()
            self._open.clear()


def _unless_moved(shard: _Shard, name: str, member: str) -> bytes | None:
    """A member's bytes, or ImageError; None: the shard is another one by now."""
    try:
        data = shard.read(shown(name), member)
    except ImageError:
        if shard.moved(name, member):
            return None
        raise
    return None if shard.moved(name, member) else data


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _opened(name: str, places: Places) -> _Shard:
    version: tuple[int, ...] = ()
    try:
        if is_local := scheme_of(name) == "path":
            version = _version(os.stat(name))
            file: IO[bytes] = open_plain(Path(name))
        else:
            file = open_remote(name)
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - every fsspec driver has errors of its own
        raise _not_read(name, error, places) from None
    try:
        with ExitStack() as stack:
            stack.callback(file.close)
            plain = _unpacked(name, file)
            stack.callback(plain.close)
            shard = _Shard(plain, _index(plain), version)
            stack.pop_all()
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001 - every fsspec driver has errors of its own
        bare = type(error) in _BARE and getattr(error, "errno", None) is None
        if bare or isinstance(error, _DAMAGED):
            raise ImageError("corrupt", f"{shown(name)}: not a whole tar file ({error})") from None
        raise _not_read(name, error, places) from None
    if is_local:
        remember(Path(name), places)
    return shard


def _not_read(name: str, error: Exception, places: Places) -> ImageError:
    """Why a shard cannot be read: its own fault, its folder's, its bucket's or this machine's."""
    if scheme_of(name) != "path":
        return remote_trouble(name, error)
    if isinstance(error, OSError):
        return not_read(error, Path(name), name, places)
    raise error


def _index(file: IO[bytes]) -> dict[str, tuple[int, int, int]]:
    """Where every plain member lies. What follows a damaged header is not reached."""
    index: dict[str, tuple[int, int, int]] = {}
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            # A sparse member's bytes do not lie in one piece.
            if member.isreg() and not member.issparse():
                index[member.name] = member.offset, member.offset_data, member.size
            tar.members = []  # type: ignore[attr-defined] # it keeps all headers it has seen
    return index


def _unpacked(name: str, file: IO[bytes]) -> IO[bytes]:
    """The file itself, or what it unpacks to."""
    head = file.read(6)
    file.seek(0)
    opener = next((packer for magic, packer in _PACKED if head.startswith(magic)), None)
    if opener is None:
        return file
    with ExitStack() as stack:
        with _room():
            plain = stack.enter_context(tempfile.TemporaryFile())
        size = 0
        with file, opener(file, "rb") as unpacking:
            while chunk := unpacking.read(_CHUNK):
                size += len(chunk)
                if size > MAX_UNPACKED:
                    raise ImageError("too_large", f"{shown(name)} unpacks to more than 16 GiB")
                with _room():
                    plain.write(chunk)
        with _room():
            plain.flush()
        stack.pop_all()
    return plain


@contextmanager
def _room() -> Iterator[None]:
    """Whatever keeps the unpacked shard from being written is this machine's."""
    try:
        yield
    except OSError as error:
        raise machine_trouble(f"a shard cannot be unpacked: {error.strerror}") from None
