"""The summary of a run, filled in as the run goes, so that every ending has one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.captioning.counters import RunCounters
from pipeline.captioning.inputs import new_run_id
from pipeline.commands import outcome
from pipeline.commands.signals import StopSignals
from pipeline.errors import Exit, StopReason, deciding, heaviest, stop_reason_of
from pipeline.store.runs import append_run

if TYPE_CHECKING:
    from pipeline.clock import Clock


class RunReport:
    """What is known of a run so far; its line in runs.jsonl is written once."""

    def __init__(self, job: str, output: str, clock: Clock) -> None:
        self.run_id = new_run_id(clock)
        self.counters = RunCounters()
        self.quota: Mapping[str, Any] = {}
        self.signals = StopSignals()
        self.dataset: str | None = None
        #: The output's folder once it is locked by this run: there the summary is kept.
        self.folder: Path | None = None
        #: What ended the asking; what fails after it is often its consequence.
        self.cause: Exception | None = None
        self._job, self._output, self._clock = job, output, clock
        self._started = clock.monotonic()
        self._appended = False

    @property
    def seconds(self) -> float:
        return self._clock.monotonic() - self._started

    def summary(self, code: Exit, reason: StopReason | None) -> dict[str, Any]:
        """The contract's summary object."""
        return outcome.summary(
            self.counters,
            run_id=self.run_id,
            job=self._job,
            code=code,
            reason=reason,
            quota=self.quota,
            output=self._output,
            dataset=self.dataset,
            seconds=self.seconds,
        )

    def append(self, summary: dict[str, Any]) -> None:
        """Add the summary's line to runs.jsonl; OSError when it cannot be written."""
        if self.folder is not None and not self._appended:
            append_run(self.folder, summary)
            self._appended = True

    def _decisive(self, error: BaseException) -> BaseException:
        """Of what ended the asking and what came after it, the error that tells most."""
        if self.cause is None or self.cause is error:
            return deciding(error, self.folder)
        return heaviest(BaseExceptionGroup("run", [self.cause, error]), self.folder)

    def failed(self, error: BaseException) -> tuple[BaseException, dict[str, Any]]:
        """The error that tells most of why a run ended, and its summary, which goes into runs.jsonl
        where that can be written."""
        decisive = self._decisive(error)
        reason = stop_reason_of(decisive, self.folder)
        summary = self.summary(reason.exit, reason)
        with suppress(OSError):
            self.append(summary)
        return decisive, summary
