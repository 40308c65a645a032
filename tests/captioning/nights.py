"""Nights of a pool with so many requests each, on the real memory of refused packs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.captioning.culprits import Culprits
from pipeline.captioning.fresh_first import FreshFirst
from pipeline.captioning.pack import Pool
from pipeline.captioning.select import Candidate
from pipeline.captioning.suspects import Suspects
from pipeline.model import Request, Row
from pipeline.packsize.limits import PackLimits
from pipeline.packsize.order import day_binds
from tests.captioning.made import OK, REFUSED, SPLIT, item, numbers

SIZE, DAY, SHARE = 32, 50, 0.01


@dataclass
class Nights:
    """A manifest of numbered images, of which the service refuses some."""

    state: Path
    images: int
    bad: set[int]
    #: Is what was refused remembered, and does it wait for fresh packs?
    remembers: bool = True
    flight: int = 4
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    captioned: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    #: Every request that was answered, in order.
    asked: list[tuple[int, ...]] = field(default_factory=list)
    #: Requests of each night, those without an answer too.
    spent: list[int] = field(default_factory=list)

    @property
    def left(self) -> list[int]:
        settled = self.captioned | self.failed
        return [number for number in range(self.images) if number not in settled]

    def _state(self, key: str) -> str | None:
        number = int(key, 16)
        return "ok" if number in self.captioned else "safety" if number in self.failed else None

    def night(self, kills_after: int | None = None) -> None:
        """One run with the requests of a day; kills_after: so many of them, with those in flight lost."""
        self.spent.append(0)
        suspects = Suspects(self.state)
        suspects.open(self._state)

        def binds(_suspected: int) -> bool:
            return day_binds(len(self.left), DAY - self.spent[-1], size=SIZE, refused=SHARE)

        fresh_first = FreshFirst(suspects, binds)
        pool = Pool(
            PackLimits(images=SIZE),
            proven=0,
            culprits=Culprits(fresh_first) if self.remembers else None,
        )
        coming, ended, flying = self._rows(fresh_first), False, list[Request]()
        while True:
            request = None
            if self.spent[-1] < DAY:
                request = pool.take(ended=ended, idle=ended and not flying)
                if request is None and not ended and not pool.holding:
                    number = next(coming, None)
                    ended = number is None
                    if number is not None:
                        pool.add(item(number))
                    continue
            if request is not None:
                self.spent[-1] += 1
                flying.append(request)
                if self.spent[-1] == kills_after:
                    break
                if len(flying) < self.flight:
                    continue
            if not flying:
                break
            self._answer(pool, flying.pop(self.rng.randrange(len(flying))))
            suspects.write()
        suspects.close()

    def _rows(self, fresh_first: FreshFirst) -> Iterator[int]:
        """As `Sources.candidates` hands them on: some ahead, those that wait once more at the end."""
        rows = self.left
        for at in range(0, len(rows), 100):
            candidates: list[Candidate] = [
                (Row(None), number.to_bytes(16)) for number in rows[at : at + 100]
            ]
            yield from [int.from_bytes(raw) for _, raw in fresh_first.ready(candidates)]
        later = fresh_first.later()
        yield from [number for number in rows if f"{number:032x}" in later]

    def _answer(self, pool: Pool, request: Request) -> None:
        group = numbers(request)
        self.asked.append(tuple(group))
        if not self.bad & set(group):
            self.captioned |= set(group)
            pool.done(request, verdict=OK)
        elif len(group) == 1:
            self.failed |= set(group)
            pool.done(request, verdict=REFUSED)
        else:
            pool.done(request, request.items, SPLIT, REFUSED)
