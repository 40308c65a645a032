"""What is left of the manifest: every row named by its key, and one bit for each row to ask.

A row is asked when it is the first of its key and the key is not settled (or is settled, and
this run was told to ask again). Rows with one key share one answer, whatever their order. The
survey is made before the first request, so that every count shown later is exact, and so that
a changed prompt is noticed before it costs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field

from pipeline.plan import identity
from pipeline.plan.prompt import Prompt, as_text
from pipeline.records import Asked, Row
from pipeline.stories.hint import Hint
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
    #: 16 bytes for each row, its key, where rows were named one by one.
    keys: bytearray = field(default_factory=bytearray)

    #: Of a long manifest: what is known of its rows, and checks each that is to be asked.
    hint: Hint | None = None

    def raw(self, ordinal: int) -> bytes | None:
        """The key of a row, if it is known from here."""
        return bytes(self.keys[16 * ordinal : 16 * ordinal + 16]) or None


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
) -> Survey:
    """Count the manifest against what is settled.

    state: key -> None (not settled), `ok`, or the failure's code; None: nothing is settled.
    again: (key, state) -> ask this settled key again?
    limit: set at most so many bits. few: raise TooMany on a long manifest.
    """
    found = Survey()
    keys, seen = found.keys, set[bytes]()
    for batch in batches:
        last = batch[-1].ordinal if batch else -1
        found.ask.extend(bytes((last >> 3) + 1 - len(found.ask)) if last >= 0 else b"")
        found.rows += len(batch)
        if few and found.rows > FEW:
            raise TooMany
        for row in batch:
            raw = naming.raw(row)
            keys += raw
            if raw in seen:
                continue
            seen.add(raw)
            found.images += 1
            known = None if state is None else state(key := raw.hex())
            if known is not None:
                found.met = True
                if known == "ok":
                    found.captioned += 1
                else:
                    found.failed[known] = found.failed.get(known, 0) + 1
            if (known is None or again(key, known)) and (limit is None or found.asked < limit):
                found.ask[row.ordinal >> 3] |= 1 << (row.ordinal & 7)
                found.asked += 1
    return found
