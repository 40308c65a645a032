"""Journal entries as JSON heads. The raw body of a reply stays a blob: no text in it can harm."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import orjson

from pipeline.records import Asked, Record, Reply, RequestRow, Sent

_ASKED = tuple(f.name for f in fields(Asked))
_SENT = tuple(f.name for f in fields(Sent) if f.name != "items")
_RECORD = tuple(f.name for f in fields(Record))
_ROW = tuple(f.name for f in fields(RequestRow))


def _plain(value: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def sent_head(sent: Sent, reply: Reply | None, row: RequestRow | None = None) -> bytes:
    """The head of a reply entry (with `reply`) or of an attempt without one (with `row`)."""
    head: dict[str, Any] = {
        "sent": _plain(sent, _SENT),
        "items": [_plain(asked, _ASKED) for asked in sent.items],
    }
    if reply is not None:
        head["reply"] = {
            "status": reply.status,
            "headers": dict(reply.headers),
            "latency_ms": reply.latency_ms,
            "at": reply.at,
        }
    if row is not None:
        head["row"] = _plain(row, _ROW)
    return orjson.dumps(head)


def read_reply(head: bytes, body: bytes | None) -> tuple[Sent, Reply]:
    """A reply entry back as values."""
    held = orjson.loads(head)
    items = tuple(Asked(**{**one, "flags": tuple(one["flags"])}) for one in held["items"])
    return Sent(**held["sent"], items=items), Reply(**held["reply"], body=body or b"")


def read_row(head: bytes) -> RequestRow:
    """The account row of an attempt without a reply."""
    return RequestRow(**orjson.loads(head)["row"])


def records_head(records: tuple[Record, ...]) -> bytes:
    """Records that come from no reply."""
    return orjson.dumps([_plain(record, _RECORD) for record in records])


def read_records(head: bytes) -> tuple[Record, ...]:
    return tuple(Record(**{**one, "flags": tuple(one["flags"])}) for one in orjson.loads(head))
