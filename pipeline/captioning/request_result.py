"""How a request ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.captioning.retry import RetryDecision
from pipeline.model import Item, Record, Request
from pipeline.values import dataclass
from pipeline.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestResult:
    """How a request ended, for the pool: images that have no record yet, and why."""

    request: Request
    left: tuple[Item, ...] = ()
    decision: RetryDecision | None = None
    verdict: Verdict | None = None
    #: Images to be asked again alone, to compare.
    audits: tuple[Item, ...] = ()
    #: Images about which nothing is decided: this endpoint is not asked about them any more.
    undone: tuple[Item, ...] = ()


def without_record(items: tuple[Item, ...], records: Sequence[Record]) -> tuple[Item, ...]:
    """The items that none of these records is of."""
    if len(records) == len(items):
        return ()
    settled = {record.key for record in records}
    return tuple(item for item in items if item.asked.key not in settled)


def with_next_attempt(item: Item) -> Item:
    """The item, about to be asked once more."""
    return replace(item, asked=replace(item.asked, attempts=item.asked.attempts + 1))
