"""SIGINT, SIGTERM and SIGHUP during a run: the first drains it, a second ends it within seconds.

Before the asking a signal unwinds at once; in the asking the answers under way are waited for;
after it the dataset is written to its end. The handlers are Python's, not the event loop's: they
are heard while the loop is busy, and a second signal does not depend on any thread that hangs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from pipeline.errors import Exit, StopReason

if TYPE_CHECKING:
    from pipeline.captioning.endpoint_pool import RunGate

_EXITS = {
    signal.SIGINT: Exit.SIGINT,
    signal.SIGTERM: Exit.SIGTERM,
    signal.SIGHUP: Exit.SIGHUP,
}
#: Seconds that a second signal leaves for an orderly end.
GRACE = 4.0


class StopSignals:
    """Which signal a run has had, and who acts on it."""

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self._act: Callable[[bool], None] | None = None
        self._unwinds = True
        self._force: Callable[[StopReason], None] = lambda _: None
        self._forced = False

    @contextmanager
    def installed(self, force: Callable[[StopReason], None]) -> Iterator[None]:
        """Hear them inside the block. force: says how the run ended when it has to end at once."""
        self._force = force
        before = {}
        for number in _EXITS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # `nohup` means it: a closed terminal does not end the run
            with suppress(ValueError):  # not the main thread: whoever runs us there stops us
                before[number] = signal.signal(number, self._hear)
        try:
            yield
        finally:
            if self.reason is None:  # else a later one has nothing to unwind
                for number, handler in before.items():
                    signal.signal(number, handler)

    @contextmanager
    def draining(self, gate: RunGate, hurry: asyncio.Event) -> Iterator[None]:
        """The asking: the first signal stops the gate, a second one sets `hurry`."""
        loop = asyncio.get_running_loop()

        def act(again: bool) -> None:
            if again:
                loop.call_soon_threadsafe(hurry.set)
            elif self.reason is not None:
                loop.call_soon_threadsafe(gate.stop, self.reason)

        self._act, self._unwinds = act, False
        try:
            yield
        finally:
            self._act = None

    def stop(self) -> None:
        """As a first SIGINT would, for a caller in the same process; from any thread."""
        if self.reason is None:
            message = "stopped by its caller, answers under way were waited for; run again to go on"
            self.reason = StopReason(exit=Exit.SIGINT, message=message)
            if self._act is not None:
                self._act(False)

    def finishing(self) -> None:
        """From now on the first signal waits for what is being written."""
        self._unwinds = False

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        again = self.reason is not None
        if not again:
            name = signal.Signals(number).name
            message = f"stopped by {name}, answers under way were waited for; run again to go on"
            self.reason = StopReason(exit=_EXITS[signal.Signals(number)], message=message)
        elif not self._forced:
            self._forced = True
            end = threading.Timer(GRACE, self._end_now)
            end.daemon = True
            end.start()
        if self._act is not None:
            self._act(again)
        elif not again and self._unwinds:
            raise SystemExit(128 + number)

    def _end_now(self) -> None:
        assert self.reason is not None
        say = threading.Thread(target=self._force, args=(self.reason,), daemon=True)
        say.start()
        say.join(0.5)  # a disk that hangs does not keep it
        os._exit(self.reason.exit)
