"""`report`: an output as one HTML file, made offline from what is on this machine.

Pictures are the thumbnails that the run kept of the bytes it sent; where there are none (an older
output, URLs that were passed on), local files and cached downloads are read again through
`images/`. Nothing is fetched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import fs
from pipeline.aio import each
from pipeline.captioning.interpret import deriving
from pipeline.captioning.output_location import ours, shared, state_folder
from pipeline.captioning.reviewed import apply
from pipeline.captioning.view import view_of
from pipeline.clock import SystemClock
from pipeline.commands.machine_jobs import read_jobs
from pipeline.commands.status import status_of
from pipeline.errors import ImageError, OutputError, PipelineError
from pipeline.local_files import Boundary
from pipeline.manifest.places import is_remote
from pipeline.report.facts import RECORD_COLUMNS, REQUEST_COLUMNS, Facts, FactsBuilder
from pipeline.report.headline import headline_of
from pipeline.report.page import Card, Extras, card_of, render, with_picture
from pipeline.store.parts import part_files, read_part, relisted
from pipeline.store.reviews import Decision, read_decisions
from pipeline.store.runs import read_runs
from pipeline.store.snapshot import record_batches
from pipeline.store.thumbnails import read_thumbnails
from pipeline.store.unpublished import with_unpublished

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig
    from pipeline.images.load import Images

#: Most records in the gallery.
PICTURES = 5_000
#: The page is at most about so large, and no picture in it larger than this.
PAGE_BYTES, PICTURE_BYTES = 13_500_000, 12_000
#: Runs in the history.
RUNS = 30
NAME = "report.html"
#: Kinds of addresses that are on this machine.
LOCAL = frozenset({"path", "file", "package", "tar"})


def report_command(job: JobConfig, dest: Path | None, environ: Mapping[str, str]) -> int:
    """Write the page; 0. OutputError (73) where there is no output yet or DEST cannot be written."""
    ours(job)
    output = Path(job.output.path)
    if not (output / "_state").is_dir():
        raise OutputError(f"{job.output.shown}: nothing to report yet; run the job first")
    facts = gather(job, PICTURES)
    decisions = read_decisions(output)
    cards = cards_of(facts, decisions)
    headline = headline_of(status_of(job), facts, now=SystemClock().now(), decisions=len(decisions))
    extras = extras_of(job, output, environ)
    room = PAGE_BYTES - len(render(headline, facts, cards, extras).encode("utf-8", "replace"))
    limit = min(PICTURE_BYTES, max(0, room) * 3 // 4 // max(1, len(cards)))
    pictures = asyncio.run(thumbnails_of(job, output, facts, limit))
    cards = [with_picture(card, pictures.get(card.key)) for card in cards]
    text = render(headline, facts, cards, extras).encode("utf-8", "replace")
    final = _destination(output, dest)
    try:
        fs.write_atomic(final, text)
    except OSError as error:
        raise OutputError(f"{final}: cannot be written ({error.strerror}); see DEST") from error
    if dest is None and (store := shared(job)) is not None:
        store.put_file(NAME, final)
    shown = f"{len(cards):,} of {facts.captions + facts.failures:,} images shown"
    print(f"{final}: {shown}, {len(pictures):,} with a picture, {len(text) / 1e6:.1f} MB")  # noqa: T201
    return 0


def _destination(output: Path, dest: Path | None) -> Path:
    """DEST; a folder gets a file of the usual name."""
    final = output / NAME if dest is None else dest
    return final / NAME if final.is_dir() else final


def cards_of(facts: Facts, decisions: Mapping[str, Decision]) -> list[Card]:
    """The gallery, with captions as people left them."""
    import pyarrow as pa

    table = facts.gallery
    if not len(table):
        return []
    at = table.schema.get_field_index("finished_at")
    table = table.set_column(at, "finished_at", table["finished_at"].cast(pa.int64()))
    cards = []
    for row in table.to_pylist():
        caption, review = apply(decisions, row)
        status = "ok" if review == "edit" else row["status"]
        cards.append(card_of({**row, "caption": caption, "status": status}, review or ""))
    return cards


def gather(job: JobConfig, pictures: int) -> Facts:
    """Everything that is on disk, counted, with captions as the dataset shows them: also answers
    that are in no part yet."""
    output, view = Path(job.output.path), view_of(job)
    builder, repeated = FactsBuilder(pictures), view.repeated(output)
    with with_unpublished(output, deriving(job)) as whole:
        for batch in record_batches(whole, RECORD_COLUMNS):
            builder.add_records(view.batch(batch, repeated))
    attempts = relisted(
        output,
        lambda: [read_part(path, REQUEST_COLUMNS) for path in part_files(output, "requests")],
    )
    for table in attempts:
        for batch in table.to_batches():
            builder.add_requests(batch)
    return builder.facts()


def extras_of(job: JobConfig, output: Path, environ: Mapping[str, str]) -> Extras:
    """Run history, audit, and the machine's other jobs."""
    status = status_of(job)
    return Extras(
        runs=read_runs(output)[-RUNS:],
        jobs=read_jobs(state_folder(environ)),
        audit=status["audit"],
        daily_limit=status["quota"]["limit"],
    )


async def thumbnails_of(job: JobConfig, output: Path, facts: Facts, limit: int) -> dict[str, bytes]:
    """key -> WebP of at most `limit` bytes, of all gallery records whose picture is on this machine."""
    rows = facts.gallery.select(["key", "image"]).to_pylist() if len(facts.gallery) else []
    kept = await asyncio.to_thread(read_thumbnails, output, [r["key"] for r in rows])
    async with open_local(job) as local:
        return await local.thumbnails(rows, kept, limit)


class LocalPictures:
    """Pictures that are on this machine. Made by `open_local`."""

    def __init__(self, images: Images, cache: Path | None) -> None:
        self._images, self._cache = images, cache

    async def load(self, image: str) -> bytes | None:
        """The picture as it would be sent; None where it is not here or does not read."""
        from pipeline.images.cache import Cache
        from pipeline.images.sources.base import scheme_of

        scheme = scheme_of(image)
        value: str | bytes | None = image if scheme in LOCAL else None
        if image.startswith(("sha256:", "id:")):
            return None
        if scheme in ("http", "https") and self._cache is not None:
            value = await asyncio.to_thread(Cache(self._cache).get, image)
        if value is None:
            return None
        try:
            return (await self._images.load(value, inline=True)).data
        except ImageError:
            return None

    async def fetch(self, image: str) -> bytes | None:
        """A picture at an http(s) address, downloaded under the address guard; None where it
        cannot be. For somebody who looks at this one picture, never for a report."""
        if not image.startswith(("http://", "https://")):
            return None
        try:
            return (await self._images.load(image, inline=True)).data
        except ImageError:
            return None

    async def thumbnails(
        self, rows: Sequence[Mapping[str, Any]], kept: Mapping[str, bytes], limit: int
    ) -> dict[str, bytes]:
        """Thumbnails of some records; kept: what the run has left of them."""
        made: dict[str, bytes] = {}

        async def make(row: Mapping[str, Any]) -> None:
            key = row["key"]
            data = kept.get(key)
            if data is None:
                data = await self.load(row["image"])
            if data is not None and (small := await self.small(data, limit)) is not None:
                made[key] = small

        async def stream() -> AsyncGenerator[Mapping[str, Any], None]:
            for row in rows:
                yield row

        await each(make, stream(), limit=8)
        return made

    async def small(self, data: bytes, limit: int) -> bytes | None:
        """A thumbnail; the picture itself where that is small enough; None where it is no picture."""
        if len(data) <= limit and data[8:12] == b"WEBP":
            return data
        return await self._images.thumbnail(data, limit)


@asynccontextmanager
async def open_local(job: JobConfig) -> AsyncIterator[LocalPictures]:
    """Pictures of a job's records, read from this machine alone."""
    from pipeline.images.load import open_images

    cache = Path(job.images.cache).expanduser() if job.images.cache else None
    async with open_images(
        job.images,
        folder=_folder(job),
        boundary=Boundary(root=job.images.folder, remote=any(map(is_remote, _paths(job)))),
        clock=SystemClock(),
        concurrency=8,
    ) as images:
        yield LocalPictures(images, cache)


def _paths(job: JobConfig) -> list[str]:
    return [job.manifest.path] if isinstance(job.manifest.path, str) else job.manifest.path


def _folder(job: JobConfig) -> Path | None:
    """Where relative image paths start; None where that is not known offline."""
    from pipeline.captioning.inputs import inspect_manifest

    if job.images.root or any("://" in path for path in _paths(job)):
        return None
    try:
        return inspect_manifest(job)[0].folder
    except PipelineError:
        return None  # the manifest has moved away; its captions are here all the same
