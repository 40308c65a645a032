"""A row made ready for the wire. An image that cannot be sent settles here and costs no request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pipeline.captioning.arrivals import AlreadyAsked
from pipeline.captioning.inputs import settings_flag
from pipeline.captioning.interpret import failure
from pipeline.captioning.select import Candidate
from pipeline.errors import ImageError
from pipeline.model import Image, Item, Row

if TYPE_CHECKING:
    from pipeline.captioning.wiring import RunContext

_NOTHING = Image()
#: Letters of a cell of no use that its record keeps.
MAX_SHOWN = 200


def item_of_url(run: RunContext, row: Row, raw: bytes) -> Item | None:
    """The item of a row whose image has not to be loaded, else None: a URL that is passed on.

    raw: the row's key.
    """
    if run.inline or row.bad is not None:
        return None
    try:
        image = run.captioner.images.pass_on(row.image)
    except ImageError:
        return None  # `load_items` settles it
    return _item(run, row, image, raw) if image is not None else None


def _item(run: RunContext, row: Row, image: Image, raw: bytes) -> Item:
    asked, prompt, recipe = run.naming.asked(row, raw)
    if (earlier := run.captioner.second.pending.get(asked.key)) is not None:
        asked = replace(asked, earlier=earlier)
    return Item(asked, image, prompt, row.image, recipe)


async def captioned_before(run: RunContext) -> Item | None:
    """The first picture of the manifest that an earlier run captioned, to ask it again."""
    if (candidate := run.selection.captioned) is None:
        return None
    row, raw = candidate
    try:
        image = await run.captioner.images.load(row.image, inline=run.inline)
    except ImageError:
        return None
    return _item(run, row, image, raw)


async def load_items(run: RunContext, candidates: Sequence[Candidate]) -> list[Item]:
    """The items of one image, asked with one prompt or with several; it is loaded once. Without
    those that settled without a request, or wait for the place that the image comes from."""
    items = list[Item]()
    image, stamp = None, None
    for row, raw in candidates:
        if image is None or image.sha256 is None:
            stamp = await run.naming.stamp(row) if row.bad is None else None
            image = await _loaded(run, row, raw, stamp)
        else:
            try:
                run.arrivals.known(row, raw, stamp, bytes.fromhex(image.sha256))
            except AlreadyAsked:
                continue
        if image is None:
            continue
        asked, key = run.arrivals.named(row, raw)
        item = _item(run, asked, _NOTHING, key).with_image(image)
        await run.keep_thumbnail(item.asked.key, image)
        if not run.same_pictures.waits(item):
            items.append(item)
    return items


async def _loaded(run: RunContext, row: Row, raw: bytes, stamp: str | None) -> Image | None:
    """The image of a row; None when the row settled without a request, or waits for its place.
    stamp: of that place, from before the read."""
    if row.bad is not None:
        item = _item(run, row, _NOTHING, raw)
        shown = item.asked.image[:MAX_SHOWN]
        item = replace(item, asked=replace(item.asked, image=shown))
        await _fail(run, item, "bad_row", row.bad)
        return None
    arrived = partial(run.arrivals.read, row, raw, stamp)
    try:
        image = await run.sources.load((row, raw), inline=run.inline, arrived=arrived)
    except AlreadyAsked:
        return None
    except ImageError as error:
        asked, key = run.arrivals.named(row, raw)
        if run.naming.versions is not None and stamp is not None:
            run.naming.versions.failed(raw, stamp)
        await run.page_links.loaded(error)
        await _fail(run, _item(run, asked, _NOTHING, key), error.code, error.message)
        return None
    if image is not None:
        await run.page_links.loaded(None)
    return image


async def _fail(run: RunContext, item: Item, code: str, message: str) -> None:
    """Settle an image that cannot be sent; it is tried again once the settings are others."""
    record = failure(run.captioner, item, code=code, message=message)
    flag = settings_flag(run.job, run.manifest)
    await run.captioner.keep([item], [record._replace(flags=(*record.flags, flag))])
