"""What one request to this service and model may be: how many images, how large, with a schema?

Learned from refusals, once: kept in `_state/shape.json` per address and model for a week, since
a server may be started anew with other limits. Nothing else depends on the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import fs
from pipeline.captioning.form_refusals import blames_schema
from pipeline.verdict import Kind, Verdict

if TYPE_CHECKING:
    from pipeline.clock import Clock
    from pipeline.model import Request
    from pipeline.packsize.limits import PackLimits
    from pipeline.service.endpoint import Endpoint

SHAPE = "shape.json"
#: What was learned longer ago is tried again.
LASTS_SECONDS = 7 * 86_400
#: The form of the answer was accepted, whatever stands in it.
_ACCEPTED = frozenset({Kind.OK, Kind.TRUNCATED, Kind.EMPTY, Kind.MALFORMED})
#: Nothing is learned of the request from these.
_UNDECIDED = frozenset(
    {Kind.TRANSIENT, Kind.UPSTREAM, Kind.ACCOUNT_MINUTE, Kind.MODEL_MINUTE, Kind.ACCOUNT_DAY}
    | {Kind.MODEL_DAY}
)
#: Refusals that may be about the form asked for, where their words name it.
_MAY_NAME_SCHEMA = frozenset({Kind.BAD_REQUEST, Kind.CONFIG_FATAL, Kind.TRANSIENT})


#: Forms of requests whose reply is JSON.
WITH_SCHEMA = ("pack", "fields", "again", "second")


class RequestShape:
    """Limits of one service's requests, and whether it takes a `response_format`. One a run."""

    def __init__(
        self,
        output: Path,
        endpoint: Endpoint,
        clock: Clock,
        *,
        schema: bool,
        say: Callable[[str], None],
    ) -> None:
        """schema: the job's requests would carry one. say: shows a line to the user."""
        self._path, self._clock, self._say = output / "_state" / SHAPE, clock, say
        # A service of our own has another port in each run.
        place = endpoint.profile.name if endpoint.profile.own else endpoint.base_url
        self._name = f"{place} {endpoint.settings.model}"
        self._known = _read(self._path, self._name, clock.now())
        #: Do requests for JSON carry a schema?
        self.schema = schema and self._known.get("schema") is not False
        self._schema_accepted = self._schema_tried = self._without = False

    def limited(self, limits: PackLimits) -> PackLimits:
        """These limits, and those that were learned before this run."""
        images, size = self._known.get("images"), self._known.get("raw_bytes")
        if type(images) is int and images > 0:
            limits = replace(limits, images=min(limits.images, images), most=images)
        if type(size) is int and size > 0:
            limits = replace(limits, raw_bytes=min(limits.raw_bytes, size))
        if self._known:
            self._say(f"requests as the service took them before ({self._path} says how)")
        return limits

    def learned(self, name: str, limit: int) -> None:
        """The pool's `on_limit`."""
        if name == "unread":
            self._say("no answer to a pack can be read: images are asked one by one")
            name = "images"
        elif name == "images":
            self._say(
                f"the service takes at most {limit} image(s) in a request: packs hold no more"
            )
        else:
            self._say(
                f"the service refuses larger requests: packs hold at most {limit:,} bytes of images"
            )
        self._keep(name, limit)

    def drops_schema(self, request: Request, verdict: Verdict) -> bool:
        """Shall this pack go again at once, without a schema? Learns from every answer to one."""
        if not self.schema or request.form not in WITH_SCHEMA:
            return False
        if verdict.kind in _ACCEPTED:
            if self._without:
                self.schema = False
                self._say("the service refuses response_format: requests go without a JSON schema")
                self._keep("schema", False)
            self._schema_accepted = True
            return False
        if self._without:
            # When it is refused all the same, the schema was not why.
            self._without = verdict.kind in _UNDECIDED
            return False
        named = verdict.kind in _MAY_NAME_SCHEMA and blames_schema(verdict.message)
        doubted = verdict.kind is Kind.BAD_REQUEST and not self._schema_accepted
        if self._schema_tried or not (named or doubted):
            return False
        self._schema_tried = self._without = True
        return True

    @property
    def sends_schema(self) -> bool:
        """Does the next pack carry a schema?"""
        return self.schema and not self._without

    def _keep(self, name: str, value: object) -> None:
        """Write it down; a disk that takes nothing loses only what may be learned again."""
        self._known |= {name: value, "at": int(self._clock.now())}
        whole = fs.read_object(self._path) | {self._name: self._known}
        with suppress(OSError):
            fs.write_atomic(
                self._path, json.dumps(whole, indent=1, sort_keys=True).encode(), private=True
            )


def _read(path: Path, name: str, now: float) -> dict[str, Any]:
    """What is known of a service and model; empty where it is too old."""
    known = fs.read_object(path).get(name)
    at = known.get("at") if isinstance(known, dict) else None
    fresh = isinstance(at, int) and now - LASTS_SECONDS < at <= now + LASTS_SECONDS
    return known if isinstance(known, dict) and fresh else {}
