"""`verify`: the promises on disk, and `--repair`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.checkpoint.check import check_output, repair
from pipeline.checkpoint.lock import held, locked
from pipeline.clock import SystemClock
from pipeline.errors import Exit, Held, OutputError

if TYPE_CHECKING:
    from pipeline.config import JobConfig


def verify_command(job: JobConfig, *, repair: bool, as_json: bool) -> int:
    """0 when every promise holds, 73 when one does not."""
    output = Path(job.output.path)
    if not (output / "_state").exists():
        raise OutputError(f"{output}: nothing here yet; run the job first")
    if holder := held(output / "_state" / "lock"):
        raise Held(f"{output}: a run is going on ({holder}); verify when it has ended")
    done = _repaired(output) if repair else []
    findings = check_output(output)
    if as_json:
        found = [{"path": f.path, "problem": f.words, "mendable": f.mendable} for f in findings]
        print(json.dumps({"ok": not findings, "findings": found, "repaired": done}))  # noqa: T201
    else:
        for words in done:
            print(words)  # noqa: T201
        for finding in findings:
            hint = " (--repair mends this)" if finding.mendable else ""
            print(f"{finding.path}: {finding.words}{hint}")  # noqa: T201
        print(f"{output}: {'all promises hold' if not findings else f'{len(findings)} problems'}")  # noqa: T201
    return int(Exit.OUTPUT) if findings else 0


def _repaired(output: Path) -> list[str]:
    with locked(output / "_state" / "lock", now=SystemClock().now()):
        return repair(output)
