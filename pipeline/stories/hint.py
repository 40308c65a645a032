"""Which rows of a long manifest may still have to be asked, known without looking at all of them.

An empty output needs no survey: every row may have to be asked. Later runs find what the last one
left in `_state/hint`: one bit for each row whose key has no record, one for each whose key has
failed. It is believed only while the manifest, the way in which rows are named, and every
published part are what they were when it was written; else the rows are counted anew. And it is
a hint all the same: **each row that it names is checked by its key before it is asked**, so that
rows with one key, of which nothing was known when the run began, share one answer too.

Until such rows have been met, the number of images is that of the rows: at most so many are left.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path

from pipeline import fs
from pipeline.stories.tally import Tally
from pipeline.values import dataclass

_NAME = "hint"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """What a hint is about; it is of no use for anything else."""

    #: Of the manifest, of how rows are named, and of the published parts.
    manifest: str
    naming: str
    parts: str


@dataclass(slots=True, kw_only=True)
class Hint:
    """What is known of a manifest's rows. Bits: least significant first."""

    rows: int
    #: Distinct keys, as far as is known.
    images: int
    captioned: int = 0
    #: code -> images.
    failed: dict[str, int] = field(default_factory=dict)
    #: Rows whose key has no record, and rows whose key has failed.
    open: bytearray
    lost: bytearray

    @classmethod
    def of_empty(cls, rows: int) -> Hint:
        """Nothing is settled yet."""
        bits = bytearray(b"\xff" * (rows // 8)) + (
            bytes([(1 << rows % 8) - 1]) if rows % 8 else b""
        )
        return cls(rows=rows, images=rows, open=bits, lost=bytearray(len(bits)))


def read_hint(state: Path, holds: Holds) -> Hint | None:
    """The last run's hint, if it still holds and is whole."""
    try:
        head, _, bits = (state / _NAME).read_bytes().partition(b"\n")
        told = json.loads(head)
        size = (told["rows"] + 7) // 8
        known = (told["version"], told["manifest"], told["naming"], told["parts"])
        if known != (_VERSION, holds.manifest, holds.naming, holds.parts):
            return None
        if len(bits) != 2 * size or told["sha256"] != _digest(told, bits):
            return None
        return Hint(
            rows=told["rows"],
            images=told["images"],
            captioned=told["captioned"],
            failed=told["failed"],
            open=bytearray(bits[:size]),
            lost=bytearray(bits[size:]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_hint(state: Path, holds: Holds, hint: Hint) -> None:
    """Leave a hint for the next run. A power cut may spoil it, which its digest tells."""
    bits = bytes(hint.open + hint.lost)
    told: dict[str, object] = {
        "version": _VERSION,
        "manifest": holds.manifest,
        "naming": holds.naming,
        "parts": holds.parts,
        "rows": hint.rows,
        "images": hint.images,
        "captioned": hint.captioned,
        "failed": hint.failed,
    }
    told["sha256"] = _digest(told, bits)
    fs.write_atomic(state / _NAME, json.dumps(told).encode() + b"\n" + bits, private=True)


def _digest(told: Mapping[str, object], bits: bytes) -> str:
    facts = json.dumps({name: told[name] for name in told if name != "sha256"}, sort_keys=True)
    return hashlib.sha256(facts.encode() + b"\n" + bits).hexdigest()


class Watch:
    """Keeps a hint true in the course of a run, and checks every row that it names."""

    def __init__(
        self,
        hint: Hint,
        tally: Tally,
        *,
        state: Callable[[str], str | None],
        again: Callable[[str, str], bool],
    ) -> None:
        self._hint, self._tally, self._state, self._again = hint, tally, state, again
        #: Keys that are on their way.
        self._under_way: set[str] = set()

    def wants(self, ordinal: int, key: str) -> bool:
        """Is this row to be asked?"""
        known = self._state(key)
        if _bit(self._hint.lost, ordinal):
            if known is not None and not self._again(key, known):
                return False
        elif known is not None or key in self._under_way:
            # A row before this one has the same key.
            _put(self._hint.open, ordinal, False)
            self._hint.images -= 1
            self._tally.images -= 1
            return False
        self._under_way.add(key)
        return True

    def settled(self, ordinal: int, key: str, *, ok: bool) -> None:
        """A row that was asked has its record."""
        self._under_way.discard(key)
        _put(self._hint.open, ordinal, False)
        _put(self._hint.lost, ordinal, not ok)

    def hint(self) -> Hint:
        """What is known now, for the next run."""
        tally = self._tally
        self._hint.captioned, self._hint.failed = tally.captioned, dict(tally.failed)
        return self._hint


def _bit(bits: bytearray, at: int) -> int:
    return bits[at >> 3] >> (at & 7) & 1


def _put(bits: bytearray, at: int, on: bool) -> None:
    if on:
        bits[at >> 3] |= 1 << (at & 7)
    else:
        bits[at >> 3] &= ~(1 << (at & 7))
