"""A service that refuses everything: ten requests, none answered, and the run ends.

One image may be at fault, ten in a row hardly: then it is the model (blind), the address, a
parameter or a field of the job, and a whole manifest would be asked in vain. Counted are images
refused alone, and errors that nothing classifies as long as all say the same; packs are counted
for the latter only, since one image can spoil a pack. From the first refusal on no more are in
flight than may still be refused. A first answer ends the watch for good.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from pipeline.errors import Exit, StopReason
from pipeline.ratelimit.rules.base import NEVER, SUCCESS, Ask, Now, Outcome, Permit, Setup
from pipeline.verdict import OPEN, Kind

#: Requests refused before anything was answered.
REQUESTS = 10
_LOOK = {
    Kind.NO_ROOM: "",
    Kind.EMPTY: "",
    Kind.TRANSIENT: ": does endpoint.base_url end in /v1, and does the model take images?",
}


class FailFast:
    """The rule `refusals`."""

    idle = False

    def __init__(self, setup: Setup) -> None:
        self._answered = False
        self._flying = 0
        self._images: set[str] = set()
        #: Words without their numbers -> errors that nothing classifies.
        self._alike: Counter[str] = Counter()
        self._over: StopReason | None = None

    @property
    def _refused(self) -> int:
        return max(len(self._images), *self._alike.values(), 0)

    def opens_at(self, ask: Ask, now: Now) -> float | StopReason:
        if self._over is not None:
            return self._over
        refused = self._refused
        return NEVER if refused and refused + self._flying >= REQUESTS else now.mono

    def take(self, permit: Permit, now: Now) -> None:
        self._flying += 1

    def report(self, permit: Permit, outcome: Outcome, now: Now) -> None:
        self._flying -= 1
        verdict = outcome.verdict
        if self._answered or verdict is None:
            return
        if outcome.kind in SUCCESS:
            self._answered, self._over = True, None
            self._images.clear()
            self._alike.clear()
            return
        if verdict.systemic:
            self._alike[re.sub(r"\d+", "0", verdict.message)] += 1
        elif outcome.kind in OPEN and len(outcome.images) == 1:
            self._images.update(outcome.images)
        if self._refused >= REQUESTS:
            look = _LOOK.get(
                verdict.kind,
                ": does the model take images, and are endpoint.params and extra_body right?",
            )
            self._over = StopReason(
                exit=Exit.SERVICE,
                message=f"the service has refused each of the first {self._refused} requests and "
                f"answered none ({verdict.message}){look}",
            )

    def give_back(self, permit: Permit, now: Now) -> None:
        self._flying -= 1

    def facts(self, now: Now) -> Mapping[str, object]:
        return {}
