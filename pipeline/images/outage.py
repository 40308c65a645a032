"""A circuit breaker for each place that images come from: a folder, a host, a bucket, this machine.

What a place does to many images at once is an outage of the place and fails none of them. While
its circuit is open its images wait, one at a time probes, and what still waits when patience ends
is left for the next run. Other places go on meanwhile. An overloaded place fails many images and
gives others: its circuit stays closed, and its images are tried until it is well or patience ends.
Only states and decisions here, no I/O: time comes in by argument, `run.py` does the waiting.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pipeline.errors import CODES, ImageError, SourceUnavailable

T = TypeVar("T")

#: Where descriptors, memory and worker processes come from.
MACHINE = "this machine"
#: errno of a machine that is short of something: it says nothing about the image or its folder.
_MACHINE_ERRNO = frozenset(
    {
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS),
        *(errno.ENOSPC, errno.EDQUOT),
    }
)
#: errno that a missing or unreadable file has by itself.
_IMAGE_ERRNO = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM),
        *(errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO, errno.EILSEQ),
    }
)
#: Images in a row without a success that open the circuit of a place that has delivered before,
#: and of one that never has (a list of URLs names many dead hosts). A failure that would be
#: permanent counts as the former while no place has delivered anything.
FAILURES_ALIVE, FAILURES_NEW = 5, 20
#: Seconds that a place which has delivered nothing in this run is waited for at most: it may be a
#: wrong name.
PATIENCE_NEW = 60.0
#: Tries of one image while its circuit is closed.
TRIES = 3
#: Tries of one image after which it is to blame, whatever it met, if others came in between.
MOST_TRIES = 10
#: Last tries of a place: it is overloaded when `FAILURES_ALIVE` different images failed among them.
RECENT = 50
#: Seconds before the first probe or second try; doubled each time up to the ceiling.
WAIT_FIRST, WAIT_CEILING = 1.0, 60.0
#: Places that are remembered as having delivered, and as having failed.
MOST_PLACES, MOST_CIRCUITS = 100_000, 10_000
#: Images that wait for their place at most; of more only the keys are kept.
MOST_WAITING = 10_000


def place_of_errno(number: int | None, folder: str) -> str | None:
    """Whose fault an OSError is: `this machine`, the folder, or None for the image's own."""
    if number in _MACHINE_ERRNO:
        return MACHINE
    return None if number in _IMAGE_ERRNO else folder


def machine_trouble(message: str) -> SourceUnavailable:
    """What this machine does to any image: it waits, and fails for no good if it has to."""
    return SourceUnavailable("connect", message, place=MACHINE, certain=True)


def no_thread(error: RuntimeError) -> bool:
    """Can a thread not be started? Python has no error of its own for it."""
    return "start new thread" in str(error)


@dataclass(slots=True)
class _Circuit(Generic[T]):
    """One place."""

    #: Since the last success: attempts that failed, and the images that failed for the first time.
    failures: int = 0
    images: set[bytes] = field(default_factory=set)
    #: Of its last tries: the image of one that failed for a reason that passes, None of a success.
    recent: deque[bytes | None] = field(default_factory=lambda: deque(maxlen=RECENT))
    #: Since when it is overloaded; None: it is not.
    overloaded: float | None = None
    #: Of the first failure since the last success.
    since: float = 0.0
    last: str = ""
    open: bool = False
    #: Opened by a failure that no image has by itself: only its own images tell that it is back.
    certain: bool = False
    probing: bool = False
    wait: float = WAIT_FIRST
    probe_at: float = 0.0
    #: (when it may be tried, image).
    waiting: deque[tuple[float, T]] = field(default_factory=deque)


class Outages(Generic[T]):
    """The circuits of a run. T: what waits (a row); told apart by `key`."""

    def __init__(self, patience: float) -> None:
        """patience: seconds without a success after which a place's images are left, if it has
        delivered an image in this run; else `PATIENCE_NEW` at most."""
        self._patience, self._patience_new = patience, min(patience, PATIENCE_NEW)
        self._circuits: dict[str, _Circuit[T]] = {}
        #: Places that have delivered an image in this run.
        self._alive: set[str] = set()
        #: key -> tries so far, and the place that failed it.
        self._tries: dict[bytes, tuple[int, str]] = {}
        #: key of the image that probes -> its place.
        self._probes: dict[bytes, str] = {}
        #: Images left for the next run, by what was the matter.
        self.left: dict[str, int] = {}
        self.waiting = 0

    def open_place(self, *places: str) -> str | None:
        """The first of these places whose circuit is open: its images need not be tried now."""
        for place in places:
            circuit = self._circuits.get(place)
            if circuit is not None and circuit.open:
                return place
        return None

    def put_off(self, place: str, image: T, now: float) -> None:
        """Let an image wait for a place whose circuit is open; it was not tried."""
        self._wait(self._circuits[place], now, image)

    def leave(self, why: str, count: int = 1) -> None:
        """Leave images for the next run."""
        self.left[why] = self.left.get(why, 0) + count

    def noted(self, trouble: SourceUnavailable, key: bytes, now: float) -> bool:
        """An image that does not wait here could not be had. Is its place out?"""
        circuit = self._failure(trouble, key, now)
        if not circuit.open and self._opens(trouble, circuit):
            self._open(circuit, trouble, now)
        return circuit.open or self._overloaded(circuit, trouble.place, now)

    def failed(
        self, trouble: SourceUnavailable, image: T, key: bytes, now: float
    ) -> ImageError | None:
        """An image could not be had for its place. None: it waits; else what it fails with."""
        circuit = self._failure(trouble, key, now)
        tries = self._tries.get(key, (0, ""))[0] + 1
        self._tries[key] = tries, trouble.place
        probed = self._circuits.get(self._probes.pop(key, ""))
        if probed is not None:
            probed.probing = False
            probed.wait = min(WAIT_CEILING, 2 * probed.wait)
            probed.probe_at = now + probed.wait
        if not circuit.open and self._opens(trouble, circuit):
            self._open(circuit, trouble, now)
        if not self._overloaded(circuit, trouble.place, now) and (
            (not circuit.open and tries >= TRIES)
            or (tries >= MOST_TRIES and circuit.failures < tries)  # others came meanwhile
        ):
            del self._tries[key]
            return ImageError(trouble.code, trouble.message)
        self._wait(circuit, now + min(WAIT_CEILING, WAIT_FIRST * 2 ** (tries - 1)), image)
        return None

    def _failure(self, trouble: SourceUnavailable, key: bytes, now: float) -> _Circuit[T]:
        if len(self._circuits) >= MOST_CIRCUITS and trouble.place not in self._circuits:
            self._circuits = {
                place: state
                for place, state in self._circuits.items()
                if state.open or state.waiting
            }
        circuit = self._circuits.setdefault(trouble.place, _Circuit())
        if not circuit.failures:
            circuit.since = now
        circuit.failures += 1
        if len(circuit.images) < FAILURES_NEW and key not in self._tries:
            circuit.images.add(key)
        if not CODES[trouble.code]:
            circuit.recent.append(key)
        circuit.last = trouble.message
        return circuit

    def overloaded(self, place: str) -> bool:
        """Does a place fail many images, and give others?"""
        circuit = self._circuits.get(place)
        return circuit is not None and circuit.overloaded is not None

    def _overloaded(self, circuit: _Circuit[T], place: str, now: float) -> bool:
        """Is an image that failed just now tried again, as its place is overloaded? Beyond
        patience it is to blame itself."""
        if place not in self._alive or len(set(circuit.recent) - {None}) < FAILURES_ALIVE:
            circuit.overloaded = None
            return False
        if circuit.overloaded is None:
            circuit.overloaded = now
        return now - circuit.overloaded < self._patience

    def _opens(self, trouble: SourceUnavailable, circuit: _Circuit[T]) -> bool:
        few = trouble.place in self._alive or (CODES[trouble.code] and not self._alive)
        return trouble.certain or len(circuit.images) >= (FAILURES_ALIVE if few else FAILURES_NEW)

    def _open(self, circuit: _Circuit[T], trouble: SourceUnavailable, now: float) -> None:
        circuit.open, circuit.wait, circuit.probe_at = True, WAIT_FIRST, now + WAIT_FIRST
        circuit.certain = trouble.certain

    def succeeded(self, places: Iterable[str], key: bytes) -> list[str]:
        """An image came, or failed for a reason of its own. Returns places that are back."""
        if len(self._alive) < MOST_PLACES:
            self._alive.update(places)
        fresh = {self._probes.pop(key, ""), self._tries.pop(key, (0, ""))[1]}
        back = []
        for place in {*places, *fresh} & self._circuits.keys():
            circuit = self._circuits[place]
            circuit.recent.append(None)
            if circuit.open and circuit.certain and place not in fresh:
                continue  # it may have been read before the outage began
            circuit.failures = 0
            circuit.images.clear()
            if circuit.open:
                back.append(place)
                circuit.open = circuit.probing = False
                circuit.waiting = deque((0.0, image) for _, image in circuit.waiting)
        return back

    def _patience_for(self, place: str) -> float:
        """Seconds without a success after which the images of a place are left."""
        inside = place.rstrip("/") + "/"
        delivered = (alive == place or alive.startswith(inside) for alive in self._alive)
        return self._patience if place == MACHINE or any(delivered) else self._patience_new

    @property
    def any_open(self) -> bool:
        """Is any circuit open?"""
        return any(circuit.open for circuit in self._circuits.values())

    def due(self, now: float, key_of: Callable[[T], bytes]) -> list[T]:
        """Images to be tried now: of closed circuits all whose time has come, of open ones a probe.
        Those of a place whose patience is over are left instead."""
        images: list[T] = []
        for place, circuit in self._circuits.items():
            if not circuit.waiting:
                continue
            idle = circuit.open and not circuit.probing
            if idle and now - circuit.since >= self._patience_for(place):
                self.leave(f"{place}: {circuit.last}", len(circuit.waiting))
                for _, image in circuit.waiting:
                    self._tries.pop(key_of(image), None)
                self.waiting -= len(circuit.waiting)
                circuit.waiting.clear()
            elif circuit.open:
                if not circuit.probing and circuit.probe_at <= now:
                    circuit.probing = True
                    image = self._probe(circuit, key_of)
                    self._probes[key_of(image)] = place
                    images.append(image)
            else:
                for _ in range(len(circuit.waiting)):
                    at, image = circuit.waiting.popleft()
                    if at <= now:
                        images.append(image)
                    else:
                        circuit.waiting.append((at, image))
        self.waiting -= len(images)
        return images

    def _probe(self, circuit: _Circuit[T], key_of: Callable[[T], bytes]) -> T:
        """Take the first image that was not tried yet, else the first: of one that has failed
        nobody knows whether it is to blame itself."""
        untried = (
            n for n, (_, image) in enumerate(circuit.waiting) if key_of(image) not in self._tries
        )
        number = next(untried, 0)
        image = circuit.waiting[number][1]
        del circuit.waiting[number]
        return image

    def next_due(self) -> float | None:
        """When the next image may be tried (monotonic seconds); None: none waits, or all that wait
        wait for a probe under way."""
        times = [
            circuit.probe_at if circuit.open else min(at for at, _ in circuit.waiting)
            for circuit in self._circuits.values()
            if circuit.waiting and not circuit.probing
        ]
        return min(times, default=None)

    def _wait(self, circuit: _Circuit[T], at: float, image: T) -> None:
        circuit.waiting.append((at, image))
        self.waiting += 1
