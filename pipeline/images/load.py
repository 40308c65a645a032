"""A manifest cell -> an image ready for the wire, or an ImageError with its code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from pathlib import Path

from aiohttp.abc import AbstractResolver

from pipeline.clock import Clock
from pipeline.errors import ImageError
from pipeline.images.fetch import Fetcher, open_fetcher
from pipeline.images.guard import address_of, is_public, refuse_odd_host
from pipeline.images.limits import MAX_HELD, worker_bytes
from pipeline.images.outage import MACHINE, machine_trouble, no_thread
from pipeline.images.settings import ImageSettings
from pipeline.images.sources import SOURCES
from pipeline.images.sources.base import Places, scheme_of
from pipeline.images.sources.file import located
from pipeline.images.sources.remote import EXTRAS, bucket_of
from pipeline.images.sources.shards import Shards
from pipeline.images.urls import as_sent, authority_of, parse, place_of
from pipeline.images.workers import Workers, cores
from pipeline.local_files import ANY, Boundary
from pipeline.media import web_url
from pipeline.memory_budget import MemoryBudget
from pipeline.model import Image, ImageValue

#: Files read at once; an object store answers slower than a disk.
READERS = 8
#: URLs of one host in a row that the service cannot fetch, until its images go as bytes.
UNFETCHED = 3
#: Is given the bytes of an image before they are decoded; what it raises ends the load.
Arrived = Callable[[bytes], Awaitable[None]]
#: Places (scheme, host, port) that are remembered.
PLACES = 10_000


class Images:
    """Loads images; one a run. Made by `open_images`."""

    def __init__(
        self, settings: ImageSettings, places: Places, fetcher: Fetcher, workers: Workers
    ) -> None:
        self._settings, self._places, self._fetcher = settings, places, fetcher
        self._workers = workers
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="images")
        self._reading = asyncio.Semaphore(READERS)
        self._budget = MemoryBudget(MAX_HELD)
        #: Hosts whose images go as bytes although URLs would do.
        self._inline: set[str] = set()
        #: Host -> URLs in a row that the service could not fetch from it.
        self._unfetched: dict[str, int] = {}
        #: What is known of a place; a manifest of millions names few.
        self._place = lru_cache(PLACES)(self._look_at)

    async def load(
        self, value: ImageValue, *, inline: bool, arrived: Arrived | None = None
    ) -> Image:
        """The image of a cell.

        inline: False passes an http(s) URL on as it is, not downloaded, unless its host goes
        inline. arrived: is given the bytes that were read. ImageError otherwise names what is wrong; nothing was sent to the service.
        """
        try:
            return await self._load(value, inline, arrived)
        except MemoryError:
            raise machine_trouble("out of memory") from None
        except RuntimeError as error:
            if not no_thread(error):
                raise
            raise machine_trouble(str(error)) from None

    async def _load(self, value: ImageValue, inline: bool, arrived: Arrived | None) -> Image:
        if isinstance(value, Mapping):
            content = value.get("bytes")
            value = (
                content if isinstance(content, bytes) and content else str(value.get("path") or "")
            )
        if isinstance(value, bytes):
            return await self._encode(value, arrived)
        if not value:
            raise ImageError("bad_uri", "the cell is empty")
        if (url := web_url(value)) is not None:
            value = url
            if not inline and (passed := self.pass_on(value)) is not None:
                return passed
            async with self._budget.hold() as hold:
                return await self._encode(await self._fetcher.get(value, hold), arrived)
        scheme = scheme_of(value)
        source = SOURCES.get(scheme)
        if source is None:
            raise ImageError("bad_uri", f"{scheme}:// is not a place that images come from")
        loop = asyncio.get_running_loop()
        async with self._budget.hold() as hold:
            async with self._reading:  # what was read and has no room yet is little
                data = await loop.run_in_executor(self._threads, source, value, self._places)
                await hold.grow(len(data))
            return await self._encode(data, arrived)

    def pass_on(self, value: ImageValue) -> Image | None:
        """The image of a cell whose URL the service fetches itself; None where bytes have to go.
        ImageError as in `load`."""
        if not isinstance(value, str) or (url := web_url(value)) is None:
            return None
        if (place := place_of(url)) is None:
            return None
        private, host = self._place(place)
        return None if private or host in self._inline else Image(as_sent(url))

    def turned_inline(self, url: str | None) -> bool:
        """Has the host of this URL gone inline?"""
        if not self.any_inline or url is None or (place := place_of(url)) is None:
            return False
        return self._place(place)[1] in self._inline

    @property
    def any_inline(self) -> bool:
        """Has any host gone inline?"""
        return bool(self._inline)

    def not_fetched(self, url: str) -> str | None:
        """The service could not fetch this URL. Returns its host if from now on all its images go
        as bytes: one dead link says nothing about its neighbours, several in a row do."""
        if (place := place_of(url)) is None:
            return None
        with suppress(ImageError):
            host = self._place(place)[1]
            self._unfetched[host] = self._unfetched.get(host, 0) + 1
            if self._unfetched[host] >= UNFETCHED and host not in self._inline:
                self._inline.add(host)
                return host
        return None

    def fetched(self, urls: Iterable[str | None]) -> None:
        """The service has fetched these URLs."""
        if self._unfetched:
            for url in urls:
                if url is not None and (place := place_of(url)) is not None:
                    self._unfetched.pop(self._place(place)[1], None)

    def places_of(self, value: ImageValue) -> tuple[str, ...]:
        """Whose outage would keep this image away: its host or bucket, or the folders above it,
        the nearest first; at last this machine."""
        if isinstance(value, Mapping):
            value = "" if value.get("bytes") else str(value.get("path") or "")
        if not isinstance(value, str) or not value:
            return (MACHINE,)
        scheme = scheme_of(value)
        if scheme == "tar":
            value = value.partition("::")[2]
            scheme = scheme_of(value)
        with suppress(ImageError, ValueError):  # a cell that leads nowhere
            if (url := web_url(value)) is not None:
                return authority_of(parse(place_of(url) or url)), MACHINE
            if scheme in ("path", "file"):
                return *map(str, located(value, self._places).parents), MACHINE
            if scheme in EXTRAS:
                return bucket_of(value), MACHINE
        return (MACHINE,)

    def _look_at(self, place: str) -> tuple[bool, str]:
        """Is this a private place, which the service cannot see? And its host.

        ImageError when it is nothing for anybody.
        """
        url = parse(place)
        host = url.host or ""
        if self._fetcher.guard.allow.opens(host, url.port or 0):
            return True, host
        refuse_odd_host(host)
        literal = address_of(host)
        if literal is not None and not is_public(literal):
            raise ImageError("blocked_address", f"{host} is not a public address")
        return False, host

    async def _encode(self, data: bytes, arrived: Arrived | None) -> Image:
        from pipeline.images.encode import encode  # with Pillow, which most URL runs never need

        if arrived is not None:
            await arrived(data)
        settings = self._settings
        return await self._workers.run(
            encode, data, settings.max_side, settings.quality, settings.max_pixels
        )

    async def thumbnail(self, data: bytes, limit: int) -> bytes | None:
        """A small WebP of a picture that was encoded here; None where that fails."""
        from pipeline.images.thumbnail import thumbnail

        try:
            return await self._workers.run(thumbnail, data, limit)
        except (ImageError, OSError, ValueError):
            return None

    def close(self) -> None:
        """Let threads and workers go; blocking."""
        self._threads.shutdown(cancel_futures=True)
        self._workers.close()
        if self._places.shards is not None:
            self._places.shards.close()


@asynccontextmanager
async def open_images(
    settings: ImageSettings,
    *,
    folder: Path | None,
    clock: Clock,
    concurrency: int,
    boundary: Boundary = ANY,
    resolver: AbstractResolver | None = None,
) -> AsyncIterator[Images]:
    """Images for one run. folder: of the manifest, the default root of relative paths."""
    places = Places(
        root=settings.folder or folder,
        boundary=boundary,
        packages=tuple(settings.packages),
        shards=Shards(),
    )
    async with open_fetcher(
        settings, clock=clock, concurrency=concurrency, resolver=resolver
    ) as fetcher:
        workers = Workers(cores(), memory=worker_bytes(settings.max_pixels))
        images = Images(settings, places, fetcher, workers)
        try:
            yield images
        finally:
            await asyncio.to_thread(images.close)
