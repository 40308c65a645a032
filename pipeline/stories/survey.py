"""What is left of the manifest: every row named by its key, and one bit for each row to ask.

A row is asked when it is the first of its key and the key is not settled (or is settled, and
this run was told to ask again). Rows with one key share one answer, whatever their order. The
survey is made before the first request, so that every count shown later is exact, and so that
a changed prompt is noticed before it costs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.plan import identity
from pipeline.plan.prompt import Prompt, as_text
from pipeline.records import Asked, Row
from pipeline.stories.hint import Hint
from pipeline.stories.keyfile import KeyFile
from pipeline.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Gives rows their names; one a run."""

    recipe: str
    prompt: Prompt
    system: str | None
    #: `images.identity` of the job.
    identity: str

    def key(self, row: Row) -> str:
        """The key of one row. Pure."""
        return self.raw(row).hex()

    def raw(self, row: Row) -> bytes:
        """The 16 bytes of the row's key."""
        return identity.raw_key(self.recipe, self._image(row), self.prompt.render(row.columns))

    def asked(self, row: Row, raw: bytes) -> tuple[Asked, str]:
        """What is asked about a row, and in what words. raw: the row's key."""
        prompt = self.prompt.render(row.columns)
        asked = Asked(
            raw.hex(),
            row.id,
            identity.shown_image(row.image),
            identity.prompt_id(prompt, self.system),
            row.ordinal,
        )
        return asked, prompt

    def _image(self, row: Row) -> str:
        if row.bad is not None:
            return identity.bad_identity(row.image)
        if not self.identity.startswith("column:"):
            return identity.image_identity(row.image)
        return f"id:{as_text(row.columns.get(self.identity.removeprefix('column:')))}"


@dataclass(slots=True, kw_only=True)
class Survey:
    """The manifest, counted. Frozen in spirit: only `survey` writes it."""

    rows: int = 0
    #: Distinct keys.
    images: int = 0
    captioned: int = 0
    #: Settled without a caption: code -> images.
    failed: dict[str, int] = field(default_factory=dict)
    #: One bit for each row: ask it.
    ask: bytearray = field(default_factory=bytearray)
    #: Rows whose bit is set.
    asked: int = 0
    #: Did any key of the manifest already have a record?
    met: bool = False
    #: Of all rows, where they were named one by one.
    keys: KeyFile | None = None
    #: Of a long manifest: what is known of its rows, and checks each that is to be asked.
    hint: Hint | None = None


class TooMany(Exception):
    """The manifest is too long to be surveyed row by row; DuckDB does it in a child process."""


#: Rows that are surveyed here: about 5 µs each.
FEW = 300_000


def survey(
    batches: Iterator[list[Row]],
    naming: Naming,
    *,
    state: Callable[[str], str | None] | None,
    again: Callable[[str, str], bool],
    limit: int | None = None,
    few: bool = False,
    keep: Path | None = None,
) -> Survey:
    """Count the manifest against what is settled.

    state: key -> None (not settled), `ok`, or the failure's code; None: nothing is settled.
    again: (key, state) -> ask this settled key again?
    limit: set at most so many bits. few: raise TooMany on a long manifest.
    keep: the folder of a file for the keys of all rows.
    """
    found, keys = Survey(), bytearray()
    for batch in batches:
        found.rows += len(batch)
        if few and found.rows > FEW:
            raise TooMany
        for row in batch:
            keys += naming.raw(row)
    found.ask = bytearray((found.rows + 7) // 8)
    for ordinal, repeated in enumerate(repeats(keys)):
        if repeated:
            continue
        found.images += 1
        if state is not None:
            key = keys[16 * ordinal : 16 * ordinal + 16].hex()
            known = state(key)
            if known is not None:
                found.met = True
                if known == "ok":
                    found.captioned += 1
                else:
                    found.failed[known] = found.failed.get(known, 0) + 1
                if not again(key, known):
                    continue
        if limit is None or found.asked < limit:
            found.ask[ordinal >> 3] |= 1 << (ordinal & 7)
            found.asked += 1
    if keep is not None:
        found.keys = KeyFile(keys, keep)
    return found


def repeats(keys: bytearray) -> bytearray:
    """For each key (16 bytes) one byte: has it stood before? Sorted, not kept in a set, which
    would take ten times as much memory."""
    found = bytearray(len(keys) // 16)
    halves = memoryview(keys).cast("Q")[::2].tobytes()
    half = pa.Array.from_buffers(pa.uint64(), len(found), [None, pa.py_buffer(halves)])
    order = pc.sort_indices(half)
    half = half.take(order)
    same = pc.equal(half[1:], half[:-1])
    if not same.true_count:
        return found
    # Keys that share their first half with another one: nearly always all of it.
    no = pa.array([False])
    shared = order.filter(pc.or_(pa.concat_arrays([no, same]), pa.concat_arrays([same, no])))
    seen = set[bytes]()
    for ordinal in sorted(shared.to_pylist()):
        key = bytes(keys[16 * ordinal : 16 * ordinal + 16])
        found[ordinal] = key in seen
        seen.add(key)
    return found
