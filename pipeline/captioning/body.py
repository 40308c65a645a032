"""The body of a request: which question goes out in which form, and with which schema. Pure."""

from __future__ import annotations

from pipeline.captioning.fields import Fields
from pipeline.captioning.prompt_format import (
    fields_instruction,
    pack_instruction,
    pack_label,
    reply_schema,
    response_schema,
    shared_prompt,
)
from pipeline.model import Request
from pipeline.service.wire import Wire


def body_of(request: Request, wire: Wire, fields: Fields, *, schema: bool) -> bytes:
    """The request as the wire wants it. schema: may it carry a JSON Schema of its reply?"""
    items, count = request.items, len(request.items)
    names = fields.names
    if request.form == "fields":
        return wire.body(
            request,
            instruction=fields_instruction(items[0].prompt, fields.meanings(names)),
            schema=reply_schema(fields.properties(names)) if schema else None,
        )
    if request.form == "again":
        names = _missing(request, fields)
    elif request.form != "pack":
        return wire.body(request, instruction=items[0].prompt, schema=None)
    captions = request.form == "pack"
    prompt = shared_prompt(items) if captions else ""
    own = enumerate(items, 1) if prompt is None else ()
    form = response_schema(fields.properties(names), caption=captions)
    return wire.body(
        request,
        instruction=pack_instruction(prompt, count, fields.meanings(names), caption=captions),
        schema=form if schema else None,
        labels=[pack_label(number, item.prompt) for number, item in own],
    )


def _missing(request: Request, fields: Fields) -> tuple[str, ...]:
    """The fields that are null in one of the records that these images are asked about."""
    records = [item.asked.earlier for item in request.items]
    rows = [fields.of_record(record.fields) for record in records if record is not None]
    return tuple(name for name in fields.names if any(row[name] is None for row in rows))
