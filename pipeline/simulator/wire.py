"""Requests and responses of the simulated service, as values without sockets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import orjson

#: whole: as announced. cut: the connection closes before the end. reset: before anything is sent.
#: hang: nothing more ever comes.
Ending = Literal["whole", "cut", "reset", "hang"]
JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimResponse:
    """What goes back, and when."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Seconds before the status line is sent.
    delay: float = 0.0
    #: (seconds to wait, bytes to send then); more than one: sent as chunks of unknown length.
    chunks: tuple[tuple[float, bytes], ...] = ()
    ending: Ending = "whole"

    @property
    def body(self) -> bytes:
        """All bytes that are sent."""
        return b"".join(chunk for _, chunk in self.chunks)


class Refused(Exception):
    """The request ends in an error, already in the service's own shape."""

    def __init__(
        self,
        status: int,
        body: object,
        *,
        headers: Mapping[str, str] | None = None,
        moves_on: bool = False,
    ) -> None:
        super().__init__(status)
        self.status, self.body = status, body
        self.headers: Mapping[str, str] = headers or {}
        #: Would a list of fallback models go on after this?
        self.moves_on = moves_on
        #: What was wrong, for the log.
        self.note: str = ""

    def response(self) -> SimResponse:
        return json_response(self.status, self.body, headers=self.headers)


def json_response(
    status: int, value: object, *, headers: Mapping[str, str] | None = None
) -> SimResponse:
    """A whole JSON answer."""
    return SimResponse(
        status=status,
        headers={"Content-Type": JSON_TYPE, **(headers or {})},
        chunks=((0.0, orjson.dumps(value)),),
    )
