"""What a run has done so far: exact counts, of the manifest and of this run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.model import ASKED_AGAIN, DOUBTED, Record, RequestRow

if TYPE_CHECKING:
    from pipeline.captioning.select import Counts

_REFUSED = frozenset(
    {"account_minute", "model_minute", "account_day", "model_day", "upstream", "budget"}
)


@dataclass(slots=True, kw_only=True)
class RunCounters:
    """Counts of this manifest (estimates, of a long one, until it was read) and of this run (from zero)."""

    rows: int = 0
    #: With several prompts each image counts once for each of them.
    images: int = 0
    prompts: int = 1
    #: There are more than these, nobody knows how many.
    more: bool = False
    captioned: int = 0
    #: code -> images that have a failure record.
    failed: dict[str, int] = field(default_factory=dict)
    #: Images whose failure of this run is of a code that passes, and did not: the same error each
    #: time, while others were answered.
    lasting: int = 0
    #: Settled in this run.
    settled: int = 0
    new_captions: int = 0
    requests: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def failures(self) -> int:
        return sum(self.failed.values())

    @property
    def unit(self) -> str:
        """What is counted: images, or captions where an image gets several."""
        return "image" if self.prompts == 1 else "caption"

    @property
    def left(self) -> int:
        return max(0, self.images - self.captioned - self.failures)

    def move(self, before: str | None, after: str) -> None:
        """One image went from `before` (None, `ok` or a code) to `after` (`ok` or a code)."""
        if before == "ok":
            self.captioned -= 1
        elif before is not None:
            self.failed[before] = self.failed.get(before, 0) - 1
            if not self.failed[before]:
                del self.failed[before]
        if after == "ok":
            self.captioned += 1
        else:
            self.failed[after] = self.failed.get(after, 0) + 1

    def settle(self, before: str | None, record: Record) -> None:
        """Count the record of one image. before: the state of its key until then."""
        if before == "ok" and ASKED_AGAIN in record.flags:
            return  # it has its caption and was counted
        withdrawn = record.error_code == DOUBTED and before is not None
        self.settled += -1 if withdrawn else 1
        if record.status == "ok":
            self.new_captions += 1
            self.move(before, "ok")
        elif record.replaces(before):
            self.new_captions -= withdrawn and before == "ok"
            self.move(before, str(record.error_code))

    def begin(self, counts: Counts, prompts: int) -> None:
        """Take over what stands before anything is asked. prompts: that each image is asked with."""
        self.prompts = prompts
        self.rows, self.images, self.more = counts.rows, counts.images, counts.more
        self.captioned, self.failed = counts.captioned, dict(counts.failed)

    def correct(self, estimated: Counts, exact: Counts) -> None:
        """Every row was read: what was estimated before is known, what this run did stays."""
        self.rows, self.images, self.more = exact.rows, exact.images, exact.more
        self.captioned += exact.captioned - estimated.captioned
        for code in {*estimated.failed, *exact.failed}:
            number = self.failed.pop(code, 0) + exact.failed.get(code, 0)
            if number := number - estimated.failed.get(code, 0):
                self.failed[code] = number

    def tried(self, row: RequestRow) -> None:
        """One HTTP attempt went into the account book."""
        self.requests += 1
        self.refused += row.class_ in _REFUSED
        self.prompt_tokens += row.prompt_tokens or 0
        self.completion_tokens += row.completion_tokens or 0
        self.cost_usd += row.cost_usd or 0.0
