"""`review`: decisions on captions, in a browser on loopback, by keyboard."""

from __future__ import annotations

import asyncio
import getpass
import secrets
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.captioning.inputs import inspect_manifest
from pipeline.captioning.join import dataset_mark, is_stale, write_dataset
from pipeline.captioning.output_location import ours, shared
from pipeline.captioning.reviewed import apply
from pipeline.captioning.view import PLAIN_VIEW, View, view_of
from pipeline.clock import SystemClock
from pipeline.commands.model_selection import pinned
from pipeline.commands.report import LocalPictures, open_local
from pipeline.commands.watch import serve_command
from pipeline.errors import Held, OutputError, PipelineError, UsageError
from pipeline.redact import one_line
from pipeline.report.facts import PREPARED, asked_with
from pipeline.report.page import Live, policy, render_review
from pipeline.report.sample import BottomK
from pipeline.store.lock import locked
from pipeline.store.parts import part_files
from pipeline.store.reviews import FOLDER, VERBS, Decision, Outdated, Reviews, new_decision
from pipeline.store.snapshot import record_batches
from pipeline.store.thumbnails import read_thumbnails
from pipeline.web.server import Answer, Site, answer

if TYPE_CHECKING:
    from pipeline.clock import Clock
    from pipeline.config.job import JobConfig

#: Captions that one page offers: that many undecided ones, and that many decided ones.
MOST = 5_000
#: Longest text of an edit, and of a reviewer's name.
LONGEST, LONGEST_NAME = 20_000, 100
_COLUMNS = ("key", "image", "caption", "flags", "finished_at", "error_code", "prompt_id")


def reviewer(name: str | None) -> str:
    """`--as`, or the user's name on this machine."""
    if name is None:
        try:
            return getpass.getuser()
        except (OSError, KeyError):
            return "unknown"
    if not name.strip() or len(name) > LONGEST_NAME:
        raise UsageError(f"--as: write a name of at most {LONGEST_NAME} characters")
    return name.strip()


def review_command(job: JobConfig, name: str | None, *, host: str, port: int) -> int:
    """Serve until a signal, publish the decisions; the signal's exit code."""
    by, output = reviewer(name), output_of(job)
    reviews = Reviews(output)
    try:
        server = ReviewServer(job, reviews, by, SystemClock())
        return serve_command(server.site(), host=host, port=port, each_minute=server.publish)
    finally:
        reviews.close()
        follow(job)


def follow(job: JobConfig) -> None:
    """Let what depends on decisions follow them: the parts of a shared output, the dataset."""
    store = shared(job)
    if store is None:
        rewrite_dataset(job)
        return
    for path in part_files(Path(job.output.path), FOLDER):
        store.put_file(f"{FOLDER}/{path.name}", path)


def rewrite_dataset(job: JobConfig) -> None:
    """Let dataset.parquet, where there is one, follow the decisions. A run that goes on writes it
    at its end anyway."""
    output = Path(job.output.path)
    if not (output / "dataset.parquet").exists():
        return
    try:
        with locked(output / "_state" / "lock", now=SystemClock().now()):
            manifest, naming = inspect_manifest(pinned(job))
            mark = dataset_mark(output, manifest, job.output.prefix, view_of(job))
            if is_stale(output / "dataset.parquet", mark):
                write_dataset(output, manifest, naming, prefix=job.output.prefix, view=view_of(job))
    except Held:
        return
    except (PipelineError, OSError) as error:
        message = f"dataset.parquet is as it was, the next run writes it ({error})"
        print(f"caption-pipeline: {one_line(message)}", file=sys.stderr)  # noqa: T201


def output_of(job: JobConfig) -> Path:
    """The output, which holds captions; OutputError (73) when there is none yet."""
    ours(job)
    output = Path(job.output.path)
    if not (output / "captions").is_dir():
        raise OutputError(f"{job.output.shown}: nothing to review yet; run the job first")
    return output


class ReviewServer:
    """The page's handlers. Every call of `reviews` is short; its database is used by one at a time."""

    def __init__(self, job: JobConfig, reviews: Reviews, by: str, clock: Clock) -> None:
        self._job, self._reviews, self._by, self._clock = job, reviews, by, clock
        self._output, self._view = Path(job.output.path), view_of(job)
        self._token = secrets.token_urlsafe(24)
        #: key -> its record, of what the page offers.
        self._rows: dict[str, dict[str, Any]] = {}
        self._one = asyncio.Lock()
        self._opened = AsyncExitStack()
        self._local: LocalPictures | None = None

    def site(self) -> Site:
        """What is served."""
        return Site(
            gets={"": self._page, "items": self._items, "picture": self._picture},
            posts={"decide": self._decide},
            token=self._token,
            close=self._opened.aclose,
        )

    async def publish(self) -> None:
        """Put decisions into parts."""
        async with self._one:
            await asyncio.to_thread(self._reviews.publish)

    async def _page(self, rest: str, query: Mapping[str, str]) -> Answer:
        text = render_review(
            self._job.name, Live(mode="review", token=self._token, reviewer=self._by)
        )
        return Answer(
            body=text.encode("utf-8", "replace"),
            kind="text/html; charset=utf-8",
            policy=policy("review") + "; frame-ancestors 'none'",
        )

    async def _items(self, rest: str, query: Mapping[str, str]) -> Answer:
        async with self._one:
            last = self._reviews.refresh()
            rows = await asyncio.to_thread(sampled, self._output, last, self._view)
            self._rows = {row["key"]: row for row in rows}
            return answer({"items": [item_of(row, last) for row in rows]})

    async def _decide(self, body: Mapping[str, Any]) -> Answer:
        """A decision: key, decision, text (of an edit), seen."""
        key, verb, text, seen = (body.get(name) for name in ("key", "decision", "text", "seen"))
        row = self._rows.get(str(key))
        if row is None or verb not in VERBS or not isinstance(seen, int):
            return answer({"error": "no such caption or decision; load the page again"}, 400)
        if verb == "edit" and not (isinstance(text, str) and text.strip() and len(text) <= LONGEST):
            return answer(
                {"error": f"an edit needs a text, of at most {LONGEST:,} characters"}, 400
            )
        async with self._one:
            last = self._reviews.refresh()
            shown, _ = apply(last, row)
            now = self._clock.now()
            made = new_decision(str(key), verb, shown, _clean(text), self._by, now)
            try:
                stored = self._reviews.decide(made, seen=seen)
            except Outdated:
                return answer({"item": item_of(row, self._reviews.refresh())}, 409)
            except OutputError as error:
                return answer({"error": one_line(str(error))}, 507)
            return answer({"item": item_of(row, {stored.key: stored})})

    async def _picture(self, rest: str, query: Mapping[str, str]) -> Answer:
        row = self._rows.get(rest)
        if row is None:
            return answer({"error": "no such picture"}, 404)
        local = await self._pictures()
        data = await local.load(row["image"])
        if data is not None:
            return Answer(body=data, kind="image/jpeg")
        kept = await asyncio.to_thread(read_thumbnails, self._output, [rest])
        if rest in kept:
            return Answer(body=kept[rest], kind="image/webp")
        data = await local.fetch(row["image"])
        if data is not None:
            return Answer(body=data, kind="image/jpeg")
        return answer({"error": "this picture cannot be had"}, 404)

    async def _pictures(self) -> LocalPictures:
        async with self._one:
            if self._local is None:
                self._local = await self._opened.enter_async_context(open_local(self._job))
            return self._local


def _clean(text: object) -> str | None:
    """An edited text: one that Parquet and every export can hold."""
    return text.strip().encode("utf-8", "replace").decode() if isinstance(text, str) else None


def sampled(
    output: Path, last: Mapping[str, Decision], view: View = PLAIN_VIEW
) -> list[dict[str, Any]]:
    """What the page offers: the undecided captions with the smallest keys, and as many decided."""
    import pyarrow as pa
    import pyarrow.compute as pc

    decided, undecided, keys = BottomK(MOST), BottomK(MOST), pa.array(list(last), pa.string())
    for batch in record_batches(output, (*_COLUMNS, "status")):
        table = pa.Table.from_batches([batch])
        table = table.filter(pc.equal(table["status"], "ok")).select(_COLUMNS)
        at = table.schema.get_field_index("finished_at")
        table = table.set_column(at, "finished_at", table["finished_at"].cast(pa.int64()))
        known = pc.is_in(table["key"], value_set=keys)
        decided.add(table.filter(known))
        undecided.add(table.filter(pc.invert(known)))
    rows = [
        {**row, "caption": view.caption(row["caption"])}
        for sample in (decided, undecided)
        if (table := sample.table())
        for row in table.to_pylist()
    ]
    return sorted(rows, key=lambda row: str(row["key"]))


def item_of(row: Mapping[str, Any], last: Mapping[str, Decision]) -> dict[str, Any]:
    """A caption as the page gets it."""
    caption, review = apply(last, row)
    decision = last.get(row["key"])
    return {
        "key": row["key"],
        "image": one_line(row["image"] or "", 200),
        "caption": caption or "",
        "flags": [
            *asked_with(row["prompt_id"]),
            *(one_line(flag, 60) for flag in row["flags"] or () if flag not in PREPARED),
        ],
        "review": review or "",
        "by": one_line(decision.by, LONGEST_NAME) if decision is not None and review else "",
        "seen": 0 if decision is None else decision.at,
    }
