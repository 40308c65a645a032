"""How the quote signs of a CSV or TSV file are read: one rule for the file as a whole.

A quote that opens a cell and is not closed would swallow the rows behind it. So the file is read
once before: where every cell that begins with a quote is a whole quoted cell, quotes are quotes;
where one is not and nothing else is quoted, quotes are letters; else the file is refused by line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from pipeline.errors import ManifestError
from pipeline.manifest import text
from pipeline.manifest.places import ManifestFile
from pipeline.patterns import lazy

_PIECE = 1 << 18
#: A cell that is an image or names one.
IMAGE_CELL = lazy(
    rb"(?i)^[a-z][a-z0-9+.-]*://\S|^data:image/"
    rb"|\.(jpe?g|jpe|jfif|png|webp|gif|bmp|tiff?|hei[cf]|avif)([?#].*)?$"
)


class Quoting(Enum):
    """What a `"` at the start of a cell means."""

    #: No cell is quoted; a quote is a letter.
    NONE = "none"
    #: RFC 4180: a quote inside a quoted cell is doubled.
    DOUBLED = "doubled"
    #: A quote inside a quoted cell stands behind a backslash.
    BACKSLASH = "backslash"


@lru_cache(maxsize=256)
def quoting(place: ManifestFile, delimiter: str, columns: int) -> Quoting:
    """The rule of a file; ManifestError where it has none. Reads it whole, once a version."""
    doubled = _Pattern(delimiter, backslash=False)
    scan = _scan(place, doubled, columns)
    if scan.stray is None:
        return Quoting.DOUBLED if scan.quotes else Quoting.NONE
    if _scan(place, _Pattern(delimiter, backslash=True), columns).stray is None:
        if (line := _lonely_backslash(place)) is None:
            return Quoting.BACKSLASH
        raise ManifestError(
            f"manifest {place.shown}: line {scan.stray}: quotes stand behind backslashes, but line "
            f"{line} has a backslash for itself; write quotes doubled, or JSON lines"
        )
    if scan.lines or _quotes_elsewhere(place, doubled):
        raise ManifestError(
            f"manifest {place.shown}: line {scan.stray}: a cell begins with a quote that is not closed "
            "at a cell's end, or not before other rows, though other cells are quoted; double "
            "the quotes inside of cells and put quotes around these, or remove it"
        )
    return Quoting.NONE


@dataclass(frozen=True)
class _Pattern:
    """Regular expressions of one delimiter and one way to write a quote inside a cell."""

    delimiter: str
    backslash: bool

    @property
    def edge(self) -> bytes:
        return re.escape(self.delimiter.encode()) + rb"\r\n"

    def cell(self, ends: bytes) -> bytes:
        """A quoted cell that does not go beyond the letters `ends`."""
        letters = rb'[^"\\' + ends + b"]*+" if self.backslash else rb'[^"' + ends + b"]*+"
        inner = rb'(?:\\[\s\S]|"")' if self.backslash else b'""'
        content = letters + b"(?:" + inner + letters + b")*+"
        return rb"(?<![^" + self.edge + rb'])"(' + content + rb')"(?=[' + self.edge + b"])"

    def plain_lines(self, lines: bytes) -> bool:
        """Are all quotes of these whole lines those of quoted cells in one line each? In half the time
        of the expressions where most cells are quoted; False is no answer."""
        pieces = lines.split(b'"')
        edges = self.delimiter.encode() + b"\r\n"
        # Every other piece is outside of cells; one without a letter joins a doubled quote.
        outside = {piece[:1] + piece[-1:] for piece in set(pieces[2:-1:2])}
        letters = b"".join([*outside, pieces[0][-1:], pieces[-1][:1]])
        if len(pieces) % 2 == 0 or letters.translate(None, edges):
            return False
        inside = b"".join(pieces[1::2])
        return b"\n" not in inside and b"\r" not in inside

    def honest(self) -> re.Pattern[bytes]:
        """As far as every quoted cell is whole and in one line, or a quote is inside of a cell."""
        inside = rb"(?<=[^" + self.edge + rb'])"'
        cell = self.cell(rb"\r\n")
        return re.compile(rb'(?:[^"]*+(?:' + cell + b"|" + inside + rb'))*+[^"]*+')


@dataclass(frozen=True)
class _Scan:
    """What a look at all quotes of a file saw."""

    #: The line of the first quote that opens a cell and should not.
    stray: int | None = None
    #: There are quotes at all.
    quotes: bool = True
    #: A whole quoted cell of several lines came before.
    lines: bool = False


def _scan(place: ManifestFile, pattern: _Pattern, columns: int) -> _Scan:
    """Look at each quote that opens a cell, as far as the first that should not."""
    honest, cell = pattern.honest(), re.compile(pattern.cell(b""))
    buffer, at, line, quotes, lines = b"", 0, 1, False, False
    with text.lines(place) as source:
        while True:
            # Twice as much each time, as an open cell is looked at from its start again.
            piece = source.read(max(_PIECE, len(buffer) - at))
            quotes = quotes or b'"' in piece
            if not piece and not quotes:
                return _Scan(quotes=False)
            buffer += piece or b"\n"
            end = buffer.rfind(b"\n") + 1
            plain = (
                quotes
                and at < end
                and buffer[at : at + 1] == b'"'
                and buffer[at - 1 : at] in (b"\n", b"")
            )
            if plain and (plain := pattern.plain_lines(buffer[at:end])):
                at = end
            after = at  # the last quoted cell of several lines
            while quotes and not plain and at < len(buffer):
                match = honest.match(buffer, at)
                at = match.end() if match else at
                if at == len(buffer):
                    break
                closed = cell.match(buffer, at)
                more = piece and len(buffer) - at <= 2 * text.MAX_LINE
                if more and (closed is None or buffer.find(b"\n", closed.end()) < 0):
                    break
                if closed is None or _swallows(buffer, closed, pattern.delimiter, columns):
                    return _Scan(stray=line + buffer.count(b"\n", 0, at), lines=lines)
                at, lines = closed.end(), True
                after = at
            if not piece:
                return _Scan()
            if quotes and not plain:
                at = max(buffer.rfind(b"\n", after, at) + 1, after)
            # What is kept begins at the line before the next quote, or with the last letter.
            at = at if quotes else len(buffer)
            keep = max(buffer.rfind(b"\n", 0, at), 0) if quotes else len(buffer) - 1
            line += buffer.count(b"\n", 0, keep)
            buffer, at = buffer[keep:], at - keep


def _swallows(buffer: bytes, cell: re.Match[bytes], delimiter: str, columns: int) -> bool:
    """Does a quoted cell of several lines look like rows? Each line would be one without it."""
    if b"\n" not in cell[0] and b"\r" not in cell[0]:
        return False
    start = max(buffer.rfind(b"\n", 0, cell.start()), buffer.rfind(b"\r", 0, cell.start())) + 1
    tail = re.compile(rb"[\r\n]|$").search(buffer, cell.end())
    lines = buffer[start : tail.start() if tail else None].splitlines()
    rows = [line.split(delimiter.encode()) for line in lines if line.strip()]
    if any(len(row) != columns for row in rows):
        return False
    images = [i for i, content in enumerate(rows[0]) if _is_image(content)]
    return not images or any(all(_is_image(row[i]) for row in rows) for i in images)


def _is_image(content: bytes) -> bool:
    return IMAGE_CELL.search(content.strip(b'" \t')) is not None


def _quotes_elsewhere(place: ManifestFile, pattern: _Pattern) -> bool:
    """Is the header quoted, or a cell that has to be?"""
    cell, delimiter = re.compile(pattern.cell(rb"\r\n")), pattern.delimiter.encode()
    first = True
    with text.lines(place) as source:
        while line := source.readline(2 * text.MAX_LINE):
            for match in cell.finditer(line.rstrip(b"\r\n") + b"\n"):
                if first or b'""' in match[1] or delimiter in match[1]:
                    return True
            first = first and not line.strip()
    return False


def _lonely_backslash(place: ManifestFile) -> int | None:
    """The first line with a backslash that stands before neither a quote nor a backslash."""
    lonely = re.compile(rb'\\(?:\\|")|(\\)')
    with text.lines(place) as source:
        for number, line in enumerate(iter(lambda: source.readline(2 * text.MAX_LINE), b""), 1):
            if any(match[1] for match in lonely.finditer(line)):
                return number
    return None
