"""`watch`: the report on loopback while a run goes on, new captions appearing as they land."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.captioning.interpret import deriving
from pipeline.captioning.output_location import ours
from pipeline.captioning.view import view_of
from pipeline.clock import SystemClock
from pipeline.commands.report import cards_of, extras_of, gather, thumbnails_of
from pipeline.commands.status import status_of
from pipeline.errors import OutputError, PipelineError, UsageError
from pipeline.report.facts import RECORD_COLUMNS, Facts
from pipeline.report.headline import headline_of
from pipeline.report.page import (
    Card,
    Headline,
    Live,
    card_of,
    policy,
    render,
    render_cards,
    render_headline,
    with_picture,
)
from pipeline.store.parts import part_files, read_part, relisted
from pipeline.store.reviews import read_decisions
from pipeline.store.shards import outputs_of
from pipeline.store.snapshot import journaled_records
from pipeline.store.thumbnails import read_thumbnails
from pipeline.web.server import Answer, Site, answer, is_loopback, serve, until_signal

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig

#: Pictures of the page as it is first shown, and bytes of each.
SHOWN, BYTES = 300, 9_000
#: Cards that a page which asks seldom can still get.
KEPT = 2_000


def watch_command(job: JobConfig, environ: Mapping[str, str], *, host: str, port: int) -> int:
    """Serve until a signal; its exit code. UsageError (64) for a port that cannot be had."""
    ours(job)
    watcher = Watcher(job, environ)
    return serve_command(watcher.site(), host=host, port=port)


def serve_command(
    site: Site, *, host: str, port: int, each_minute: Callable[[], Awaitable[None]] | None = None
) -> int:
    """Print the URL, then serve until a signal. each_minute: called now and then."""
    if not 0 <= port <= 65535:
        raise UsageError(f"--port {port}: write a number from 0 (any free port) to 65535")

    async def whole() -> int:
        async with serve(site, host=host, port=port) as url:
            print(url, flush=True)  # noqa: T201 - the command's result
            if not is_loopback(host):
                warning = f"--host {host}: everybody who reaches this machine can see the page"
                print(f"caption-pipeline: warning: {warning}", file=sys.stderr)  # noqa: T201
            often = asyncio.create_task(_each_minute(each_minute))
            try:
                return await until_signal()
            finally:
                often.cancel()

    return asyncio.run(whole())


async def _each_minute(act: Callable[[], Awaitable[None]] | None) -> None:
    while act is not None:
        await asyncio.sleep(60)
        try:
            await act()
        except PipelineError as error:
            print(f"caption-pipeline: {error}", file=sys.stderr)  # noqa: T201 - tried again


class Feed:
    """Records as they land: those of the journal at once, those of parts that have changed."""

    def __init__(self, job: JobConfig, known: Mapping[str, int]) -> None:
        self._output, self._derive = Path(job.output.path), deriving(job)
        self._view = view_of(job)
        #: key -> when its record was finished.
        self._known = dict(known)
        #: Of each journal, the last entry seen.
        self._after: dict[Path, int] = {}
        self._changed = {path: _stamp(path) for path in self._parts()}

    def poll(self) -> Iterator[Mapping[str, Any]]:
        """New records since the last time, with captions as the dataset shows them."""
        for row in self._new():
            yield {**row, "caption": self._view.caption(row["caption"])}

    def _new(self) -> Iterator[Mapping[str, Any]]:
        for folder in outputs_of(self._output):
            yield from self._of_journal(folder)
        for path in self._parts():
            if self._changed.get(path) != (stamp := _stamp(path)):
                self._changed[path] = stamp
                yield from self._of_part(path)

    def _of_journal(self, folder: Path) -> Iterator[Mapping[str, Any]]:
        before = None
        while before != (after := self._after.get(folder, 0)):
            before = after
            self._after[folder], records = journaled_records(folder, after, self._derive)
            for record in records:
                row = {name: getattr(record, name) for name in RECORD_COLUMNS}
                if self._is_new(row["key"], record.finished_at):
                    yield row

    def _parts(self) -> list[Path]:
        return part_files(self._output, "captions") + part_files(self._output, "failures")

    def _of_part(self, path: Path) -> Iterator[Mapping[str, Any]]:
        import pyarrow as pa

        table = read_part(path, RECORD_COLUMNS)
        times = table["finished_at"].cast(pa.int64()).to_pylist()
        for at, (key, time) in enumerate(zip(table["key"].to_pylist(), times, strict=True)):
            if self._is_new(key, time or 0):
                yield table.slice(at, 1).to_pylist()[0]

    def _is_new(self, key: str, time: int) -> bool:
        if self._known.get(key) == time:
            return False
        self._known[key] = time
        return True


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


class Watcher:
    """The page's handlers and what they remember."""

    def __init__(self, job: JobConfig, environ: Mapping[str, str]) -> None:
        self._job, self._environ = job, environ
        self._output = Path(job.output.path)
        self._feed: Feed | None = None
        #: Cards in the order in which they came, of which the first `_gone` are forgotten.
        self._cards: list[Card] = []
        self._gone = 0
        self._facts: Facts | None = None
        self._one = asyncio.Lock()

    def site(self) -> Site:
        """What is served."""
        return Site(gets={"": self._page, "news": self._news})

    async def _page(self, rest: str, query: Mapping[str, str]) -> Answer:
        async with self._one:
            facts = await asyncio.to_thread(gather, self._job, SHOWN)
            self._facts = facts
            pictures = await thumbnails_of(self._job, self._output, facts, BYTES)
            decisions = await asyncio.to_thread(read_decisions, self._output)
            if self._feed is None:
                self._feed = Feed(
                    self._job,
                    await asyncio.to_thread(relisted, self._output, partial(_times, self._output)),
                )
            cards = [
                with_picture(card, pictures.get(card.key)) for card in cards_of(facts, decisions)
            ]
            seen = {card.key for card in cards}
            late = [card for card in reversed(self._cards) if card.key not in seen]
            live = Live(mode="watch", after=self._gone + len(self._cards))
            extras = await asyncio.to_thread(extras_of, self._job, self._output, self._environ)
            text = render(self._headline(facts), facts, [*late, *cards], extras, live)
        body = text.encode("utf-8", "replace")
        return Answer(
            body=body,
            kind="text/html; charset=utf-8",
            policy=policy("watch") + "; frame-ancestors 'none'",
        )

    def _headline(self, facts: Facts) -> Headline:
        return headline_of(status_of(self._job), facts, now=SystemClock().now())

    async def _news(self, rest: str, query: Mapping[str, str]) -> Answer:
        text = query.get("after", "")
        after = int(text) if text.isdecimal() and len(text) < 12 else 0
        async with self._one:
            if self._feed is None or self._facts is None:
                return answer({"error": "load the page first"}, 409)
            try:
                await asyncio.to_thread(self._poll, self._feed)
                headline = await asyncio.to_thread(self._headline, self._facts)
            except OutputError:
                return answer({"after": after, "cards": "", "headline": ""})  # just being replaced
            end = self._gone + len(self._cards)
            cards = self._cards[max(0, after - self._gone) :][-KEPT:]
            return answer(
                {
                    "after": end,
                    "cards": render_cards(cards[::-1]),
                    "headline": render_headline(headline),
                }
            )

    def _poll(self, feed: Feed) -> None:
        rows = list(feed.poll())
        if not rows:
            return
        kept = read_thumbnails(self._output, [row["key"] for row in rows])
        self._cards += [with_picture(card_of(row), kept.get(row["key"])) for row in rows]
        self._gone += max(0, len(self._cards) - KEPT)
        del self._cards[:-KEPT]


def _times(output: Path) -> dict[str, int]:
    """key -> when its record was finished, of the records that the page shows already."""
    import pyarrow as pa

    times: dict[str, int] = {}
    for folder in ("captions", "failures"):
        for path in part_files(output, folder):
            table = read_part(path, ["key", "finished_at"])
            finished = table["finished_at"].cast(pa.int64()).to_pylist()
            times.update(zip(table["key"].to_pylist(), (at or 0 for at in finished), strict=True))
    return times
