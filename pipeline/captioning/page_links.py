"""Links to pages in the place of pictures: when the first images of a run are all HTML pages, the
job captions the wrong column, and this says so while there is time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.errors import ImageError
from pipeline.images.sniff import PAGE

if TYPE_CHECKING:
    from pipeline.manifest.open import Manifest

#: Images that have to be pages, or all of them where there are fewer.
FIRST = 10


class PageLinks:
    """Watches the first images of a run."""

    def __init__(self, manifest: Manifest, *, asked: int, event: Callable[[str], None]) -> None:
        """event: tells the user one line."""
        self._manifest, self._event = manifest, event
        self._pages, self._first = 0, min(FIRST, asked)

    async def loaded(self, error: ImageError | None) -> None:
        """An image was loaded, or failed. Pure but for the one line that says what is wrong."""
        if self._pages >= self._first:
            return
        if error is None or not error.message.startswith(PAGE):
            self._first = 0  # no run of pages
            return
        self._pages += 1
        if self._pages == self._first:
            others = await asyncio.to_thread(self._manifest.other_images)
            self._event(_sentence(self._manifest.image, others, self._first))


def _sentence(column: str, others: tuple[str, ...], count: int) -> str:
    images = "first image" if count == 1 else f"first {count} images"
    text = f"the {images} of column {column!r}: HTML pages, not pictures"
    if len(others) == 1:
        return f"{text}; column {others[0]!r} looks like pictures: set manifest.image to it"
    if others:
        return f"{text}; set manifest.image to one of {', '.join(map(repr, others))}"
    return text
