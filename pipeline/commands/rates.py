"""What the account book says about how a job goes: seconds an answer, tokens, what was in vain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captioning.pack_sizes import measured_of
from pipeline.captioning.suspects import remembered
from pipeline.model import ASKED_AGAIN
from pipeline.packsize import auto
from pipeline.store.parts import part_files, read_part, relisted

#: The latest parts that are read: at most 50,000 attempts.
PARTS = 5
#: Attempts below which the book tells too little.
ENOUGH = 5
_ANSWERED = ("ok", "truncated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Over the latest attempts of an output with one model."""

    #: Attempts looked at.
    requests: int
    #: Median seconds of an answer.
    latency: float
    #: Share of the images asked that came back answered; the others were asked again.
    answered: float
    #: Images answered an attempt, over runs that packed as many as is planned: images that are refused
    #: are found by asking in smaller packs, those of remembered packs as expected. None where no run
    #: packed so.
    each: float | None
    #: Remembered packs that were refused: their images, and the requests of the search in them.
    suspects: tuple[int, float] = (0, 0.0)
    #: Tokens of an answered image, where the service told.
    prompt_tokens: float | None
    completion_tokens: float | None

    def requests_for(self, images: int, size: int) -> float:
        """Requests for so many images, those of remembered packs included."""
        suspected, searches = self.suspects
        return max(0, images - suspected) / (self.each or size * self.answered) + searches


def rates_of(output: Path, model: str, size: int) -> Rates | None:
    """What was measured; None where too little was. size: images a request, as planned."""
    names = [
        "run_id",
        "class",
        "model",
        "images",
        "latency_ms",
        "prompt_tokens",
        "completion_tokens",
    ]
    tables = relisted(
        output,
        lambda: [read_part(part, names) for part in part_files(output, "requests")[-PARTS:]],
    )
    if not tables:
        return None
    book = pa.concat_tables(tables)
    book = book.filter(pc.equal(book["model"], model))
    good = book.filter(pc.is_in(book["class"], pa.array(_ANSWERED)))
    images = pc.sum(good["images"]).as_py() or 0
    if book.num_rows < ENOUGH or not images:
        return None
    suspects = _suspects(output, model)
    return Rates(
        requests=book.num_rows,
        latency=(pc.quantile(good["latency_ms"], 0.5)[0].as_py() or 0.0) / 1000,
        answered=images / pc.sum(book["images"]).as_py(),
        each=_filled(book, size, suspects),
        suspects=suspects,
        prompt_tokens=_each(good, "prompt_tokens"),
        completion_tokens=_each(good, "completion_tokens"),
    )


def asked_again(
    output: Path, whom: Callable[[Mapping[str, Any]], str | None]
) -> dict[str | None, float] | None:
    """Shares of the images that were asked a second question, by whom it went to, over the latest
    records; None where there are too few. whom: of a record with `flags`, `model` and `status`."""
    parts = [path for folder in ("captions", "failures") for path in part_files(output, folder)]
    names = ["flags", "model", "status"]
    tables = relisted(output, lambda: [read_part(part, names) for part in parts[-PARTS:]])
    count = sum(map(len, tables))
    if count < ENOUGH:
        return None
    rows = (row for table in tables for row in table.to_pylist())
    asked = Counter(whom(row) for row in rows if ASKED_AGAIN in (row["flags"] or ()))
    return {name: times / count for name, times in asked.items()}


def _suspects(output: Path, model: str) -> tuple[int, float]:
    packs = remembered(output)
    refused = auto.refused_share(measured_of(output, model), len(packs), sum(packs))
    return sum(packs), sum(auto.search(images, refused)[0] for images in packs)


def _filled(book: pa.Table, size: int, suspects: tuple[int, float]) -> float | None:
    """Images answered an attempt in the runs whose largest pack held `size`, as if these suspects had
    been searched too."""
    largest = book.group_by("run_id").aggregate([("images", "max")])
    alike = largest.filter(pc.equal(largest["images_max"], size))["run_id"]
    rows = book.filter(pc.is_in(book["run_id"], alike.combine_chunks()))
    good = rows.filter(pc.is_in(rows["class"], pa.array(_ANSWERED)))
    images = pc.sum(good["images"]).as_py() or 0
    if not images or rows.num_rows < ENOUGH:
        return None
    return float((images + suspects[0]) / (rows.num_rows + suspects[1]))


def _each(good: pa.Table, name: str) -> float | None:
    """Tokens an image, over the answers that tell."""
    known = good.filter(pc.is_valid(good[name]))
    images = pc.sum(known["images"]).as_py()
    return pc.sum(known[name]).as_py() / images if images else None
