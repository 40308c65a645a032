"""`verify`: the promises on disk, and `--repair`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.captioning.output_location import ours, shards_of, shared
from pipeline.clock import SystemClock
from pipeline.commands.verify_keys import check_keys
from pipeline.errors import Exit, Held, OutputError, UsageError
from pipeline.plural import counted
from pipeline.store.lock import holder_of, locked
from pipeline.store.remote.verify import check_shared, repair_shared
from pipeline.store.repair import make_state, mend
from pipeline.store.verify import check_output, has_journal, repair

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig
    from pipeline.store.remote.filesystem import Store


def verify_command(
    job: JobConfig, *, repair: bool, as_json: bool, forget: Sequence[str] = ()
) -> int:
    """0 when every promise holds, 73 when one does not. forget: parts to give up (with repair)."""
    if forget and not repair:
        raise UsageError("--forget goes with --repair")
    ours(job)
    output = Path(job.output.path)
    if not (make_state(output) if repair else (output / "_state").exists()):
        raise OutputError(f"{job.output.shown}: nothing here yet; run the job first")
    shards = shards_of(job)
    each = [(Path(j.output.path), shared(j)) for j in [job, *shards]]
    for folder, _ in each:
        if holder := holder_of(folder / "_state" / "lock"):
            raise Held(f"{folder}: a run is going on ({holder}); verify when it has ended")
    if shards and not has_journal(output):
        del each[0]  # nothing is joined yet
    done = [text for place in each for text in _repaired(*place, forget)] if repair else []
    findings = check_output(output)
    for folder, store in each:
        if store is not None:
            findings += check_shared(folder, store)
    findings += check_keys(job, output)
    if as_json:
        problems = [
            {"path": f.path, "problem": f.problem, "mendable": f.mendable} for f in findings
        ]
        print(json.dumps({"ok": not findings, "findings": problems, "repaired": done}))  # noqa: T201
    else:
        for text in done:
            print(text)  # noqa: T201
        for finding in findings:
            hint = " (--repair mends this)" if finding.mendable else ""
            print(f"{finding.path}: {finding.problem}{hint}")  # noqa: T201
        text = counted(len(findings), "problem") if findings else "all promises hold"
        print(f"{job.output.shown}: {text}")  # noqa: T201
    return int(Exit.OUTPUT) if findings else 0


def _repaired(output: Path, store: Store | None, forget: Sequence[str]) -> list[str]:
    with locked(output / "_state" / "lock", now=SystemClock().now()):
        done = mend(output, forget) + repair(output)
        return done if store is None else done + repair_shared(output, store)
