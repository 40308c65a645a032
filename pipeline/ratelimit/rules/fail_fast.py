"""A service that refuses everything: ten images alone, none answered, and the run ends.

One image may be at fault, ten in a row hardly: then it is the model (blind), a parameter or a
field of the job, and a whole manifest would be asked in vain, each image failed for good. Packs
say nothing here, since one image can spoil a pack. A first answer ends the watch for good.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.errors import Exit, StopReason
from pipeline.ratelimit.rules.base import SUCCESS, Ask, Now, Outcome, Permit, Setup
from pipeline.verdict import Kind

#: Images refused alone before anything was answered.
IMAGES = 10
#: "No", about this request as it stands.
REFUSED = frozenset(
    {Kind.BAD_REQUEST, Kind.IMAGE_REJECTED, Kind.TOO_LARGE, Kind.TOO_LONG, Kind.NO_ROOM}
)


class FailFast:
    """The rule `refusals`."""

    idle = False

    def __init__(self, setup: Setup) -> None:
        self._answered = False
        self._images: set[str] = set()
        self._over: StopReason | None = None

    def opens_at(self, ask: Ask, now: Now) -> float | StopReason:
        return self._over or now.mono

    def report(self, permit: Permit, outcome: Outcome, now: Now) -> None:
        if self._answered:
            return
        if outcome.kind in SUCCESS:
            self._answered, self._over = True, None
            self._images.clear()
        elif outcome.kind in REFUSED and len(outcome.images) == 1:
            self._images.update(outcome.images)
            if len(self._images) >= IMAGES:
                words = outcome.verdict.message if outcome.verdict is not None else ""
                self._over = StopReason(
                    exit=Exit.SERVICE,
                    message=f"the service has refused each of the first {len(self._images)} "
                    f"images and answered none ({words}): does the model take images, and are "
                    "endpoint.params and extra_body right?",
                )

    def give_back(self, permit: Permit, now: Now) -> None:
        pass

    def facts(self, now: Now) -> Mapping[str, object]:
        return {}
