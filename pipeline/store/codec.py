"""Journal heads: everything of an entry but the raw body, as JSON.

The body stays a blob, so no text in it can harm. Text in a head that is no Unicode (a path's or
a header's lone surrogate) is kept too, escaped, by the slower writer of the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson

from pipeline.model import Asked, Record, Reply, RequestRow, Sent
from pipeline.schema import SENT_SIZE


def write(head: object) -> bytes:
    """JSON on one line; frozen values become objects."""
    try:
        return orjson.dumps(head)
    except TypeError:
        return json.dumps(head, default=_plain).encode()


def read(head: bytes) -> Any:
    """What `write` wrote."""
    try:
        return orjson.loads(head)
    except ValueError:
        return json.loads(head)


def _plain(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _spelled(sent: Sent) -> dict[str, object]:
    """What was asked, as a `dict`: that is written in half the time of a value."""
    return {
        "request_id": sent.request_id,
        "run_id": sent.run_id,
        "recipe": sent.recipe,
        "profile": sent.profile,
        "model": sent.model,
        "form": sent.form,
        "attempt": sent.attempt,
        "at": sent.at,
        "wait_ms": sent.wait_ms,
        **({"endpoint": sent.endpoint} if sent.endpoint else {}),
        "items": [
            {
                "key": item.key,
                "id": item.id,
                "image": item.image,
                "prompt_id": item.prompt_id,
                "ordinal": item.ordinal,
                "image_sha256": item.image_sha256,
                "width": item.width,
                "height": item.height,
                **(
                    {"sent_width": item.sent_width, "sent_height": item.sent_height}
                    if item.sent_width is not None
                    else {}
                ),
                "flags": item.flags,
                "attempts": item.attempts,
                **({} if item.earlier is None else {"earlier": item.earlier._asdict()}),
            }
            for item in sent.items
        ],
    }


def reply_head(sent: Sent, reply: Reply) -> bytes:
    """The head of a reply entry."""
    head = {
        "status": reply.status,
        "headers": dict(reply.headers),
        "latency_ms": reply.latency_ms,
        "at": reply.at,
    }
    return write({"sent": _spelled(sent), "reply": head})


def read_reply(head: bytes, body: bytes | None) -> tuple[Sent, Reply]:
    """A reply entry back as values."""
    fields = read(head)
    sent = fields["sent"]
    sent["items"] = tuple(_asked(item) for item in sent["items"])
    return Sent(**sent), Reply(**fields["reply"], body=body or b"")


def row_head(sent: Sent, row: RequestRow) -> bytes:
    """The head of an attempt without a reply."""
    return write({"sent": _spelled(sent), "row": row})


def read_row(head: bytes) -> RequestRow:
    """The account row of an attempt without a reply."""
    return RequestRow(**read(head)["row"])


def records_head(records: Sequence[Record]) -> bytes:
    """Records that come from no reply."""
    return write([record._asdict() for record in records])


def read_records(head: bytes) -> tuple[Record, ...]:
    """Those records back."""
    return tuple(Record(**_flags(record)) for record in read(head))


def _asked(fields: dict[str, Any]) -> Asked:
    if (earlier := fields.get("earlier")) is not None:
        fields["earlier"] = Record(**_flags(earlier))
    return Asked(**_flags(fields))


def _flags(fields: dict[str, Any]) -> dict[str, Any]:
    if "sent_width" not in fields:  # of an earlier version: what it calls `width` is the sent size
        sizes = {sent: fields.get(name) for name, sent in SENT_SIZE.items()}
        fields = {**fields, **dict.fromkeys(SENT_SIZE), **sizes}
    return {**fields, "flags": tuple(fields["flags"])}
