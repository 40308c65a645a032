"""A manifest cell -> an image ready for the wire, or an ImageError with its code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from multiprocessing import get_context
from pathlib import Path

from pipeline.clock import Clock
from pipeline.errors import ImageError
from pipeline.images.fetch import Fetcher, open_fetcher, parse
from pipeline.images.settings import ImageSettings
from pipeline.images.sources import SOURCES, Places, scheme_of
from pipeline.records import Image, ImageValue

#: Above so many bytes a picture is decoded in a worker process; below it a thread is cheaper.
SMALL_BYTES = 300_000
#: Address space of a worker process, and CPU seconds for one picture.
WORKER_BYTES, PICTURE_SECONDS = 3 * 2**30, 60
WORKERS = 2


class Images:
    """Loads images; one a run. Made by `open_images`."""

    def __init__(self, settings: ImageSettings, places: Places, fetcher: Fetcher) -> None:
        self._settings, self._places, self._fetcher = settings, places, fetcher
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="images")
        self._workers: ProcessPoolExecutor | None = None

    async def load(self, value: ImageValue, *, inline: bool) -> Image:
        """The image of a cell.

        inline: False passes an http(s) URL on as it is, not downloaded. ImageError otherwise
        names what is wrong; nothing was sent to the service.
        """
        if isinstance(value, Mapping):
            held = value.get("bytes")
            value = held if isinstance(held, bytes) and held else str(value.get("path") or "")
        if isinstance(value, bytes):
            return await self._encode(value)
        if not value:
            raise ImageError("bad_uri", "the cell is empty")
        scheme = scheme_of(value)
        if scheme in ("http", "https"):
            if not inline:
                parse(value)
                return Image(url=value)
            return await self._encode(await self._fetcher.get(value))
        source = SOURCES.get(scheme)
        if source is None:
            raise ImageError("bad_uri", f"{scheme}:// is not a place that images come from")
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._threads, source, value, self._places)
        return await self._encode(data)

    async def _encode(self, data: bytes) -> Image:
        from pipeline.images.encode import encode

        settings, loop = self._settings, asyncio.get_running_loop()
        executor: Executor = self._threads
        if len(data) > SMALL_BYTES:
            executor = self._processes()
        try:
            return await loop.run_in_executor(
                executor, encode, data, settings.max_side, settings.quality
            )
        except BrokenProcessPool:
            # The worker died on this picture, or beside one that killed it: once more, alone.
            self._drop(executor)
            return await self._alone(data)

    async def _alone(self, data: bytes) -> Image:
        """A picture in a worker of its own; if that dies too, it is the picture."""
        from pipeline.images.encode import encode

        settings, loop = self._settings, asyncio.get_running_loop()
        with _pool(1) as own:
            try:
                return await loop.run_in_executor(
                    own, encode, data, settings.max_side, settings.quality
                )
            except BrokenProcessPool:
                raise ImageError("corrupt", "decoding it killed the decoder") from None

    def _processes(self) -> ProcessPoolExecutor:
        if self._workers is None:
            self._workers = _pool(WORKERS)
        return self._workers

    def _drop(self, broken: Executor) -> None:
        if self._workers is broken:
            self._workers = None
        broken.shutdown(wait=False)

    def close(self) -> None:
        """Let the workers go."""
        self._threads.shutdown(cancel_futures=True)
        if self._workers is not None:
            self._workers.shutdown(cancel_futures=True)


def _limit() -> None:
    """In a fresh worker: cap memory, and leave Ctrl-C to the driver."""
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_AS, (WORKER_BYTES, WORKER_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned, never forked: a forked child would hold the output's lock after we are killed.
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_limit)


@asynccontextmanager
async def open_images(
    settings: ImageSettings, *, folder: Path | None, clock: Clock, concurrency: int
) -> AsyncIterator[Images]:
    """Images for one run. folder: of the manifest, the default root of relative paths."""
    root = Path(settings.root).absolute() if settings.root else folder
    async with open_fetcher(settings, clock=clock, concurrency=concurrency) as fetcher:
        images = Images(settings, Places(settings=settings, root=root), fetcher)
        try:
            yield images
        finally:
            await asyncio.to_thread(images.close)
