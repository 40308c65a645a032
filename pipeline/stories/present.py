"""A row made ready for the wire. An image that cannot be sent settles here and costs no request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.errors import ImageError
from pipeline.records import Image, Item, Row
from pipeline.stories.told import failure

if TYPE_CHECKING:
    from pipeline.stories.start import Opened

_NOTHING = Image()


def at_hand(run: Opened, row: Row) -> Item | None:
    """The item of a row whose image has not to be loaded, else None: a URL that is passed on."""
    if run.inline or row.bad is not None:
        return None
    try:
        image = run.desk.images.pass_on(row.image)
    except ImageError:
        return None  # `present` settles it
    return _item(run, row, image) if image is not None else None


def _item(run: Opened, row: Row, image: Image) -> Item:
    asked, prompt = run.naming.asked(row, run.survey.raw(row.ordinal))
    return Item(asked=asked, image=image, prompt=prompt, source=row.image)


async def present(run: Opened, row: Row) -> Item | None:
    """The item of a row; None when the row settled without a request."""
    item = _item(run, row, _NOTHING)
    if row.bad is not None:
        await run.desk.keep([failure(run.desk, item, code="bad_row", message=row.bad)])
        return None
    try:
        image = await run.desk.images.load(row.image, inline=run.inline)
    except ImageError as error:
        await run.desk.keep([failure(run.desk, item, code=error.code, message=error.message)])
        return None
    asked = replace(
        item.asked,
        image_sha256=image.sha256,
        width=image.width,
        height=image.height,
        flags=image.flags,
    )
    return replace(item, asked=asked, image=image)
