"""A row made ready for the wire. An image that cannot be sent settles here and costs no request."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pipeline.captioning.arrivals import AlreadyAsked
from pipeline.captioning.inputs import settings_flag
from pipeline.captioning.interpret import failure
from pipeline.errors import ImageError
from pipeline.model import Image, Item, Row

if TYPE_CHECKING:
    from pipeline.captioning.wiring import RunContext

_NOTHING = Image()
#: Letters of a cell of no use that its record keeps.
MAX_SHOWN = 200


def at_hand(run: RunContext, row: Row, raw: bytes) -> Item | None:
    """The item of a row whose image has not to be loaded, else None: a URL that is passed on.

    raw: the row's key.
    """
    if run.inline or row.bad is not None:
        return None
    try:
        image = run.captioner.images.pass_on(row.image)
    except ImageError:
        return None  # `present` settles it
    return _item(run, row, image, raw) if image is not None else None


def _item(run: RunContext, row: Row, image: Image, raw: bytes) -> Item:
    asked, prompt = run.naming.asked(row, raw)
    if (earlier := run.captioner.second.pending.get(asked.key)) is not None:
        asked = replace(asked, earlier=earlier)
    return Item(asked, image, prompt, row.image)


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


async def present(run: RunContext, row: Row, raw: bytes) -> Item | None:
    """The item of a row; None when the row settled without a request, or waits for the place that
    its image comes from. raw: the row's key."""
    item = _item(run, row, _NOTHING, raw)
    if row.bad is not None:
        shown = item.asked.image[:MAX_SHOWN]
        item = replace(item, asked=replace(item.asked, image=shown))
        await _fail(run, item, "bad_row", row.bad)
        return None
    stamp = await run.naming.stamp(row)
    arrived = partial(run.arrivals.read, row, raw, stamp)
    try:
        image = await run.sources.load((row, raw), inline=run.inline, arrived=arrived)
    except AlreadyAsked:
        return None
    except ImageError as error:
        item = _item(run, row, _NOTHING, run.arrivals.key(raw))
        await run.page_links.loaded(error)
        await _fail(run, item, error.code, error.message)
        return None
    if image is None:
        return None
    item = _item(run, row, _NOTHING, run.arrivals.key(raw))
    await run.page_links.loaded(None)
    await run.keep_thumbnail(item.asked.key, image)
    item = item.with_image(image)
    return None if run.same_pictures.waits(item) else item


async def _fail(run: RunContext, item: Item, code: str, message: str) -> None:
    """Settle an image that cannot be sent; it is tried again once the settings are others."""
    record = failure(run.captioner, item, code=code, message=message)
    flag = settings_flag(run.job, run.manifest)
    await run.captioner.keep([item], [record._replace(flags=(*record.flags, flag))])
