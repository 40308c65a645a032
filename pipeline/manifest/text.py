"""Text files as clean byte streams: compression seen through, UTF-8 only, no NUL, no BOM.

Compression is told by its magic bytes, not by the file's ending. A stream is decompressed piece
by piece, so that a bomb costs time and no memory; the readers limit what one line may hold.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from typing import BinaryIO, cast

from pipeline.errors import ManifestError
from pipeline.manifest.places import ManifestFile, unreadable

#: Longest row of a text manifest, in bytes: a data URI of 20 MB, and what stands beside it.
MAX_LINE = 32 << 20
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class CleanText(io.RawIOBase):
    """Decompressed bytes of a text file; ManifestError on what no text manifest may hold."""

    def __init__(self, place: ManifestFile) -> None:
        super().__init__()
        self._shown = place.shown
        self._raw = place.open()
        try:
            self._source = _decompressed(self._raw)
            self._head = self._source.read(4)
        except Exception as error:
            self._raw.close()
            raise unreadable(self._shown, error) from error
        self._line = 1
        if self._head[:2] in _UTF16 or bytes(2) in (self._head[::2], self._head[1::2]):
            self.close()
            raise ManifestError(f"manifest {self._shown}: is UTF-16 text; save it as UTF-8")
        self._head = self._head.removeprefix(_BOM)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer)).cast("B")
        chunk = self.read(len(view))
        view[: len(chunk)] = chunk
        return len(chunk)

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; empty at the end."""
        chunk, self._head = self._head, b""
        if not chunk:
            try:
                chunk = self._source.read(size)
            except (OSError, EOFError, lzma.LZMAError, ValueError) as error:
                raise ManifestError(
                    f"manifest {self._shown}: damaged or cut compressed file near line "
                    f"{self._line}: {error}"
                ) from error
        at = chunk.find(b"\0")
        if at >= 0:
            line = self._line + chunk.count(b"\n", 0, at)
            raise ManifestError(
                f"manifest {self._shown}: NUL byte in line {line}; it is not a text file, "
                "or is damaged"
            )
        self._line += chunk.count(b"\n")
        return chunk

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


def _decompressed(raw: BinaryIO) -> BinaryIO:
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=raw))
    if head.startswith(b"BZh"):
        return cast("BinaryIO", bz2.BZ2File(raw))
    if head.startswith(b"\xfd7zXZ\0"):
        return cast("BinaryIO", lzma.LZMAFile(raw))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow as pa

        return cast("BinaryIO", pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"))
    return raw


def head_of(place: ManifestFile, size: int) -> bytes:
    """The first bytes of a text file, decompressed."""
    with CleanText(place) as text:
        parts, left = [], size
        while left > 0 and (chunk := text.read(left)):
            parts.append(chunk)
            left -= len(chunk)
    return b"".join(parts)


def not_utf8(place: ManifestFile, line: int) -> ManifestError:
    """The error for a line that does not decode."""
    return ManifestError(
        f"manifest {place.shown}: line {line} is not UTF-8; save the file as UTF-8"
    )


def too_long(place: ManifestFile, line: int) -> ManifestError:
    """The error for a line without end."""
    return ManifestError(
        f"manifest {place.shown}: line {line} is longer than {MAX_LINE >> 20} MiB; "
        "put images into files or a Parquet column"
    )


def lines(place: ManifestFile) -> io.BufferedReader:
    """A buffered reader over the clean text, for line-wise formats."""
    return io.BufferedReader(CleanText(place), 1 << 18)
