"""What a run learns about packs: how many images a request should hold, and whether captions
from packs are as good as those from requests of one image.

Both are statistics and nothing depends on them but the size of the next pack: `_state/
measured.json` (counts per model) and `_state/audit.jsonl` (one line for each image asked again)
are written when a run ends, and a crash before that loses no caption.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import fs
from pipeline.model import Image, Item, Request, Sent
from pipeline.packsize import auto, cost
from pipeline.packsize.audit import Agreement, Compared, agreement, chosen, compare, misplaced
from pipeline.packsize.auto import Measured
from pipeline.packsize.order import day_binds
from pipeline.verdict import Kind

if TYPE_CHECKING:
    from pipeline.captioning.interpret import ReplyOutcome
    from pipeline.captioning.pack import Pool
    from pipeline.packsize.limits import PackLimits

MEASURED, AUDIT = "measured.json", "audit.jsonl"
#: Images settled before `auto` thinks again about the size of packs.
THINK_EVERY = 64
#: So many of the audited images are asked alone a second time: how alike two single captions of
#: one image are, without which the likeness of packed and single means nothing.
TWICE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAudit:
    """An image on its way to be asked alone."""

    caption: str
    others: tuple[str, ...]
    size: int
    single: str | None = None


class Packing:
    """One run's pack sizes and audits. Not thread-safe."""

    def __init__(
        self,
        pool: Pool,
        limits: PackLimits,
        *,
        automatic: bool,
        audit: float,
        measured: Measured,
        pictures: bool = False,
    ) -> None:
        """pictures: keep the images that were asked, for a page that shows them."""
        self.pool, self.limits, self._automatic = pool, limits, automatic
        self._share, self._held = audit, measured
        self._waiting: dict[str, PendingAudit] = {}
        self._thought = 0
        #: Images settled alone, and those of them that were refused.
        self._settled = self._refused = 0
        #: What this run measured, by the size of its requests.
        self.by_size: dict[int, Measured] = {}
        #: key -> image, for those who show them.
        self.pictures: dict[str, Image] = {}
        self._pictures = pictures
        #: Lines for `audit.jsonl`.
        self.audits: list[dict[str, Any]] = []
        if automatic:
            pool.allow(self.size)

    @property
    def measured(self) -> Measured:
        """All that this run measured."""
        alone = Measured(settled=self._settled, refused=self._refused)
        return sum(self.by_size.values(), start=alone)

    @property
    def size(self) -> int:
        """Images in a request, as far as is known."""
        if not self._automatic:
            return self.limits.images
        return auto.choose(self.limits, self._held + self.measured)

    def exceeds(self, images: int, requests: int, *, suspected: int) -> bool:
        """Do so many images take more than so many requests, as far as is known? suspected: packs that
        were refused and not searched to the end."""
        measured, left = self._held + self.measured, suspected * self.size
        refused = auto.refused_share(measured, suspected, left)
        return day_binds(images, requests, size=self.size, refused=refused)

    def record_result(
        self, request: Request, sent: Sent, outcome: ReplyOutcome
    ) -> tuple[Item, ...]:
        """Learn from a reply; returns the images that are to be asked again alone."""
        completion, size = outcome.completion, len(request.items)
        if size == 1 and not self._pictures:
            # Most jobs ask one image at a time, and many thousand times: two counts are enough.
            for record in outcome.records:
                refused = record.error_code in auto.REFUSED
                self._refused += refused
                self._settled += refused or record.status == "ok"
            return ()
        counts = auto.measure(
            sent,
            outcome.verdict.kind,
            outcome.records,
            prompt_tokens=completion.prompt_tokens if completion else None,
            completion_tokens=completion.completion_tokens if completion else None,
            raw_bytes=sum(cost.item_bytes(item.image) for item in request.items),
        )
        if self._pictures:
            self.pictures |= {item.asked.key: item.image for item in request.items}
        self.by_size[size] = self.by_size.get(size, Measured()) + counts
        if self._automatic:
            settled = sum(of_size.settled for of_size in self.by_size.values())
            if settled - self._thought >= THINK_EVERY:
                self._thought = settled
                self.pool.allow(self.size)
        if self._share and size > 1 and outcome.verdict.kind in (Kind.OK, Kind.TRUNCATED):
            return self._choose(request, outcome)
        return ()

    def _choose(self, request: Request, outcome: ReplyOutcome) -> tuple[Item, ...]:
        captions = {
            record.key: record.caption for record in outcome.records if record.caption is not None
        }
        picked = []
        for item in request.items:
            key = item.asked.key
            if key in captions and chosen(key, self._share):
                others = tuple(text for other, text in captions.items() if other != key)
                self._waiting[key] = PendingAudit(
                    caption=captions[key], others=others, size=len(request.items)
                )
                picked.append(item)
        return tuple(picked)

    def audited(self, item: Item, caption: str) -> bool:
        """The answer for an image asked alone; is it to be asked alone once more?"""
        key = item.asked.key
        waiting = self._waiting.pop(key)
        # Other digits of the key than those that chose it.
        if waiting.single is None and int(key[:8], 16) < TWICE * (1 << 32):
            self._waiting[key] = replace(waiting, single=caption)
            return True
        first = waiting.single or caption
        pair = agreement(waiting.caption, first)
        again = agreement(caption, first) if waiting.single else None
        self.audits.append(
            {
                "key": key,
                "pack_size": waiting.size,
                "packed": asdict(pair),
                "single": asdict(again) if again else None,
                "misplaced": misplaced(first, waiting.caption, waiting.others),
                "captions": [waiting.caption, first],
            }
        )
        return False

    def compared(self) -> Compared | None:
        """This run's audit, summed up; None without one."""
        return sum_up(self.audits)

    def keep(self, output: Path, model: str) -> None:
        """Write what was learned beside the output's state."""
        state = output / "_state"
        if self.measured != Measured():
            stored = fs.read_object(state / MEASURED)
            stored[model] = (measured_of(output, model) + self.measured).to_plain()
            text = json.dumps(stored, indent=1, sort_keys=True)
            fs.write_atomic(state / MEASURED, text.encode(), private=True)
        if self.audits:
            before = (state / AUDIT).read_bytes() if (state / AUDIT).exists() else b""
            lines = "".join(json.dumps(audit, ensure_ascii=False) + "\n" for audit in self.audits)
            fs.write_atomic(state / AUDIT, before + lines.encode(), private=True)


def measured_of(output: Path, model: str) -> Measured:
    """What runs of this output have measured with a model so far; zeros where nothing was."""
    stored = fs.read_object(output / "_state" / MEASURED).get(model)
    return Measured.of_plain(stored) if isinstance(stored, dict) else Measured()


def audits_of(output: Path) -> Compared | None:
    """All audits of an output, summed up; None without one."""
    try:
        lines = (output / "_state" / AUDIT).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return sum_up(audit for line in lines.splitlines() if (audit := _audit(line)) is not None)


def _audit(line: str) -> dict[str, Any] | None:
    """One line of `audit.jsonl`; None when it is damaged: it is only statistics."""
    try:
        audit: dict[str, Any] = json.loads(line)
        sum_up([audit])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return audit


def sum_up(audits: Iterable[dict[str, Any]]) -> Compared | None:
    """Packed against single, beside single against single."""
    audits = list(audits)
    if not audits:
        return None
    packed = [Agreement(**audit["packed"]) for audit in audits]
    single = [Agreement(**audit["single"]) for audit in audits if audit["single"]]
    return compare(packed, single, misplaced=sum(bool(audit["misplaced"]) for audit in audits))
