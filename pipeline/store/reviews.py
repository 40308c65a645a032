"""Decisions of people on captions: `reviews/*.parquet`, kept as captions are.

A decision is committed to a journal of its own (`_state/reviews.db`: the same tables, the same
SQLite settings) before it is shown as saved, and published from there: planned, written aside,
read back, named, marked. Several processes may decide at once, also during a run: SQLite orders
their transactions, and a decision that was made without knowing the last one of its key is
refused instead of written over it.

Decisions are only ever added; the last one of a key counts. Accept, reject and flag are about the
caption that was there: one that was asked again later stands unreviewed. An edited text stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from pipeline import fs, schema
from pipeline.clock import micros
from pipeline.errors import Held, OutputError, remedy
from pipeline.store import parts, tables
from pipeline.store.lock import locked
from pipeline.store.publish_plan import PART_ROWS, REVIEWS, Step, number_of

FOLDER, JOURNAL, LOCK = REVIEWS, "reviews.db", "reviews.lock"
#: Kind of a journal entry that holds a decision.
REVIEW = 4
Verb = Literal["accept", "edit", "reject", "flag"]
VERBS: tuple[Verb, ...] = ("accept", "edit", "reject", "flag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What somebody decided about one caption."""

    key: str
    decision: str
    #: The text that was shown, and the text that stands from now on; None: none.
    before: str | None
    after: str | None
    by: str
    #: Microseconds since the epoch.
    at: int

    def holds(self, finished_at: int | None) -> bool:
        """Is this still about the caption that was finished then (µs)?"""
        return self.decision == "edit" or finished_at is None or finished_at <= self.at


class Outdated(Exception):
    """A decision was made without knowing the last one of its key."""

    def __init__(self, last: Decision | None) -> None:
        super().__init__("decided meanwhile")
        self.last = last


class Reviews:
    """Decisions of one output, opened for writing; blocking. OutputError when that cannot be."""

    def __init__(self, output: Path) -> None:
        self._output = output
        try:
            fs.make_private_dir(output / "_state")
            fs.make_dir(output / FOLDER)
        except OSError as error:
            raise OutputError(
                f"{output}: cannot be written ({error.strerror}){remedy(error)}"
            ) from error
        self._db = tables.connect(output / "_state" / JOURNAL)
        self._last: dict[str, Decision] = {}
        #: Number of the last entry that `_last` knows of.
        self._known = -1
        self._refresh()

    def last(self, key: str) -> Decision | None:
        """The last decision on a key, as of the last decision made here or `refresh`."""
        return self._last.get(key)

    def refresh(self) -> Mapping[str, Decision]:
        """All last decisions, with what other processes decided meanwhile."""
        self._refresh()
        return self._last

    def decide(self, new: Decision, *, seen: int) -> Decision:
        """Store a decision, durable on return. seen: the time of the last decision on its key that
        whoever decides knew of, 0: none. Raises Outdated when there is another one."""
        return self.decide_all([new], {new.key: seen})[0]

    def decide_all(self, new: Iterable[Decision], seen: Mapping[str, int]) -> list[Decision]:
        """Store some decisions at once, all or none."""
        stored: list[Decision] = []
        try:
            with tables.transaction(self._db):
                self._refresh()
                seq = max(tables.last(self._db), 0)
                entries: list[tables.Entry] = []
                for decision in new:
                    last = self._last.get(decision.key)
                    before = 0 if last is None else last.at
                    if before != seen.get(decision.key, before):
                        raise Outdated(last)
                    kept = decision if decision.at > before else _later(decision, before + 1)
                    seq += 1
                    entries.append((seq, REVIEW, json.dumps(asdict(kept)).encode(), None))
                    stored.append(kept)
                for start in range(0, len(entries), tables.ADDED_AT_ONCE):
                    tables.insert(self._db, entries[start : start + tables.ADDED_AT_ONCE])
        except tables.ERRORS as error:
            raise OutputError(
                f"{self._output / '_state' / JOURNAL}: the decision is not saved ({error}); make "
                "room or mend the disk"
            ) from error
        self._known = seq
        self._last.update((decision.key, decision) for decision in stored)
        return stored

    def publish(self) -> int:
        """Put what is in the journal alone into parts; how many decisions that were. Another
        process that publishes just now does it for this one."""
        done = 0
        try:
            with locked(self._output / "_state" / LOCK, now=0.0):
                self._settle_planned()
                while number := self._publish_some():
                    done += number
                while tables.forget_entries(self._db, 1000):
                    pass
        except Held:
            return 0
        return done

    def close(self) -> None:
        """Publish, and let go of the journal."""
        try:
            self.publish()
        finally:
            self._db.close()

    def _refresh(self) -> None:
        published = tables.published(self._db)
        if self._known < published:  # others have published what was not known here
            self._last = _of_parts(self._output)
            self._known = published
        while entries := tables.some_entries(self._db, self._known, 1000):
            for seq, _, head, _ in entries:
                _add(self._last, _read(head))
                self._known = seq

    def _publish_some(self) -> int:
        known = tables.parts(self._db)
        base = max(known, key=lambda part: part.name, default=None)
        if base is not None and base.rows >= PART_ROWS:
            base = None
        room = PART_ROWS - (base.rows if base is not None else 0)
        entries = tables.some_entries(self._db, 0, room)
        if not entries:
            return 0
        files = parts.part_files(self._output, FOLDER)
        number = max((number_of(path.name) for path in files), default=0) + 1
        name = base.name if base is not None else f"part-{number:08d}.parquet"
        rows = reviews_table([_read(head) for _, _, head, _ in entries])
        try:
            step = Step(folder=FOLDER, name=name, rows=(rows,))
            part = parts.stage(self._output, step, base)
            tables.plan_part(self._db, part)
            parts.give_name(self._output, part)
        except OSError as error:
            raise OutputError(
                f"{self._output / FOLDER}: cannot be written ({error.strerror}); the decisions are "
                "safe in the journal"
            ) from error
        tables.mark_parts(self._db, [part], upto=entries[-1][0])
        return len(entries)

    def _settle_planned(self) -> None:
        """After a publication that was cut short: did its file get its name?"""
        known = {part.place: part for part in tables.parts(self._db)}
        planned = tables.parts(self._db, "planned")
        for part in parts.resolve(self._output, list(known.values()), planned):
            base = known.get(part.place)
            added = part.rows - (base.rows if base is not None else 0)
            tables.mark_parts(self._db, [part], upto=tables.published(self._db) + added)


def reviews_table(decisions: Iterable[Decision]) -> pa.Table:
    """Decisions as a table of `reviews/`."""
    return pa.Table.from_pylist([asdict(decision) for decision in decisions], schema=schema.REVIEWS)


def new_decision(
    key: str, verb: str, shown: str | None, text: str | None, by: str, now: float
) -> Decision:
    """A decision of now (epoch seconds). shown: the text that was there; text: of an edit."""
    after = {"edit": text, "reject": None}.get(verb, shown)
    return Decision(key=key, decision=verb, before=shown, after=after, by=by, at=micros(now))


def read_decisions(output: Path) -> dict[str, Decision]:
    """key -> its last decision, from any process; {} where nobody has decided anything."""
    path = output / "_state" / JOURNAL
    waiting: list[Decision] = []
    # The journal before the parts: what is published in between is then met twice, never missed.
    if path.exists():
        try:
            db = tables.look(path)
            try:
                after = 0
                while entries := tables.some_entries(db, after, 1000):
                    waiting += [_read(head) for _, _, head, _ in entries]
                    after = entries[-1][0]
            finally:
                db.close()
        except tables.ERRORS as error:
            raise OutputError(f"{path}: the reviews cannot be read ({error})") from error
    last = _of_parts(output)
    for decision in waiting:
        _add(last, decision)
    return last


def _of_parts(output: Path) -> dict[str, Decision]:
    last: dict[str, Decision] = {}
    for path in parts.part_files(output, FOLDER):
        table = parts.read_part(path, schema.REVIEWS.names)
        at = table.schema.get_field_index("at")
        table = table.set_column(at, "at", table["at"].cast(pa.int64()))
        for row in table.to_pylist():
            _add(last, Decision(**row))
    return last


def _add(last: dict[str, Decision], decision: Decision) -> None:
    known = last.get(decision.key)
    if known is None or known.at <= decision.at:
        last[decision.key] = decision


def _read(head: bytes) -> Decision:
    return Decision(**json.loads(head))


def _later(decision: Decision, at: int) -> Decision:
    """The same decision at a time of its own: the machine's clock may have been set back."""
    return Decision(**{**asdict(decision), "at": at})
