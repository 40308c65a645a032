"""How records are shown in a dataset and in exports: typed columns, polish, one caption for many images.

All of it follows from the records as they are stored, so changing it asks nothing.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.captioning.fields import NO_FIELDS, Fields
from pipeline.checks.polish import PolishSettings, polished
from pipeline.model import CHECK
from pipeline.store.snapshot import record_batches

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig

SAME_CAPTION = CHECK + "same_caption"
_OFF = PolishSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a job shows of its records."""

    fields: Fields = NO_FIELDS
    polish: PolishSettings = _OFF
    #: So many different images with one caption are flagged; None: are not looked for.
    same_images: int | None = None

    #: Names what makes datasets of the same answers differ.
    mark: str = ""

    def repeated(self, output: Path) -> frozenset[int]:
        """Hashes of the captions that too many different images have."""
        return frozenset() if self.same_images is None else _repeated(output, self.same_images)

    def caption(self, text: str | None) -> str | None:
        """One caption as it is shown."""
        return polished(text, self.polish) if text and self.polish != _OFF else text

    def batch(self, records: pa.RecordBatch, repeated: frozenset[int]) -> pa.RecordBatch:
        """Records as they are shown; they have the columns `caption` and `flags`."""
        names = records.schema.names
        columns = self.shown(dict(zip(names, records.columns, strict=True)), repeated)
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=records.schema)

    def shown(
        self, columns: Mapping[str, pa.Array], repeated: frozenset[int]
    ) -> dict[str, pa.Array]:
        """The record columns `caption` and `flags` as they are shown."""
        shown = dict(columns)
        captions = columns["caption"].to_pylist() if repeated or self.polish != _OFF else []
        if repeated and any(hash(caption) in repeated for caption in captions):
            flags = [
                [*dict.fromkeys((*(old or ()), SAME_CAPTION))]
                if caption and hash(caption) in repeated
                else old
                for caption, old in zip(captions, columns["flags"].to_pylist(), strict=True)
            ]
            shown["flags"] = pa.array(flags, columns["flags"].type)
        if self.polish != _OFF:
            texts = [self.caption(caption) for caption in captions]
            shown["caption"] = pa.array(texts, columns["caption"].type)
        return shown


#: Records as they are.
PLAIN_VIEW = View()


def view_of(job: JobConfig) -> View:
    """What a job shows of its records."""
    same = job.checks.same_caption
    settings = (job.polish, job.checks, job.reply)
    text = json.dumps([part.model_dump(mode="json") for part in settings], sort_keys=True)
    return View(
        fields=Fields(job.reply.fields),
        polish=job.polish,
        same_images=None if same.action is None else same.images,
        mark=hashlib.sha256(text.encode()).hexdigest()[:16],
    )


def _repeated(output: Path, images: int) -> frozenset[int]:
    """Two passes over the captions: hashes that come so often (sorted, 16 bytes a caption), then the
    different images of each of these. Images with the same bytes are one."""
    hashes = array("q")
    for batch in record_batches(output, ["caption"]):
        hashes.extend(map(hash, filter(None, batch["caption"].to_pylist())))
    if len(hashes) < images:
        return frozenset()
    whole = pa.Array.from_buffers(pa.int64(), len(hashes), [None, pa.py_buffer(hashes)])
    ordered = whole.take(pc.sort_indices(whole))
    first, last = ordered.slice(0, len(ordered) - images + 1), ordered.slice(images - 1)
    often = frozenset(pc.unique(first.filter(pc.equal(first, last))).to_pylist())
    if not often:
        return often
    different: dict[int, set[str]] = {code: set() for code in often}
    for batch in record_batches(output, ["caption", "image", "image_sha256"]):
        rows = (column.to_pylist() for column in batch.columns)
        for text, image, sha256 in zip(*rows, strict=True):
            seen = different.get(hash(text)) if text else None
            if seen is not None and len(seen) < images:
                seen.add(sha256 or image)
    return frozenset(code for code, seen in different.items() if len(seen) >= images)
