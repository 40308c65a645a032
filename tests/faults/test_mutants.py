"""Is every safeguard needed, and would its loss be noticed? One at a time is taken out.

A mutant is the program with one piece of its text replaced. For each, some test of this suite has
to fail; one that passes them all is a safeguard that nothing watches. The weekly run tries them
all, the others those that fail within a second or two, and one whose killer cuts the power.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.conftest import Table
from tests.support.command import ROOT
from tests.support.weekly import weekly

POWER = "tests/faults/test_power.py::test_the_power_goes_at_every_instant"
KILLS = "tests/faults/test_file_faults.py::test_a_fault_at_every_file_call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A piece of text that stands once in a file, what stands there instead, and who must notice."""

    file: str
    old: str
    new: str
    killer: str


MUTANTS = {
    "a part is named before it is synced": Mutant(
        file="fs.py",
        old="        write_all(fd, data)\n        os.fsync(fd)\n",
        new="        write_all(fd, data)\n",
        killer=f"{POWER}[names]",
    ),
    "folders are not synced": Mutant(
        file="fs.py",
        old="        os.fsync(fd)\n    except OSError as error:\n",
        new="        pass\n    except OSError as error:\n",
        killer=f"{POWER}[none]",
    ),
    "a folder is synced before the rename": Mutant(
        file="fs.py",
        old="    os.replace(tmp, final)\n    sync_dir(final.parent)\n",
        new="    sync_dir(final.parent)\n    os.replace(tmp, final)\n",
        killer=f"{POWER}[none]",
    ),
    "new folders are not synced into their parents": Mutant(
        file="fs.py",
        old="        sync_dir(folder.parent)\n",
        new="        pass\n",
        killer=f"{POWER}[none]",
    ),
    "a private folder is not synced into its parent": Mutant(
        file="fs.py",
        old="        path.mkdir(mode=PRIVATE_DIR)\n        sync_dir(path.parent)\n",
        new="        path.mkdir(mode=PRIVATE_DIR)\n",
        killer=f"{POWER}[none]",
    ),
    "the dataset and exports are not synced": Mutant(
        file="fs.py",
        old="    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)\n"
        "    try:\n        os.fsync(fd)\n",
        new="    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)\n"
        "    try:\n        pass\n",
        killer=f"{POWER}[names]",
    ),
    "the dataset is not synced": Mutant(
        file="captioning/join.py",
        old="    fs.sync_file(tmp)\n",
        new="",
        killer=f"{POWER}[names]",
    ),
    "an export is not synced": Mutant(
        file="export/export.py",
        old="        fs.sync_file(tmp)\n",
        new="",
        killer=f"{POWER}[names]",
    ),
    "the journal is synced at checkpoints alone": Mutant(
        file="store/tables.py",
        old='"synchronous=FULL"',
        new='"synchronous=NORMAL"',
        killer=f"{POWER}[none]",
    ),
    "the journal is never synced": Mutant(
        file="store/tables.py",
        old='"synchronous=FULL"',
        new='"synchronous=OFF"',
        killer=f"{POWER}[names]",
    ),
    "the quota ledger is never synced": Mutant(
        file="ratelimit/ledger_file.py",
        old="PRAGMA synchronous=FULL",
        new="PRAGMA synchronous=OFF",
        killer=f"{POWER}[names]",
    ),
    "kept bodies are not synced": Mutant(
        file="store/bodies.py",
        old="            os.fsync(self._fd)\n",
        new="            pass\n",
        killer=f"{POWER}[names]",
    ),
    "the name of kept bodies is not synced": Mutant(
        file="store/bodies.py",
        old="        fs.sync_dir(self.path.parent)\n",
        new="",
        killer=f"{POWER}[none]",
    ),
    "the summary is not synced": Mutant(
        file="store/runs.py",
        old="        os.fsync(fd)\n",
        new="",
        killer=f"{POWER}[names]",
    ),
    "the name of the summaries is not synced": Mutant(
        file="store/runs.py",
        old="    if not size:\n        fs.sync_dir(path.parent)\n",
        new="",
        killer=f"{POWER}[none]",
    ),
    "an answer is acknowledged before it is in the journal": Mutant(
        file="store/journal.py",
        old="loop.run_in_executor(self._thread, self._commit, entries)",
        new="loop.run_in_executor(None, lambda: None)",
        killer=f"{KILLS}[before]",
    ),
    "a part is marked as published before it has its name": Mutant(
        file="store/publish.py",
        old="            await self.aside(parts.give_name, self._output, part)\n"
        "            named.append(part)\n",
        new="            await self._journal.call(tables.mark_parts, [part])\n"
        "            await self.aside(parts.give_name, self._output, part)\n"
        "            named.append(part)\n",
        killer=f"{KILLS}[before]",
    ),
    "a part is not planned": Mutant(
        file="store/publish.py",
        old="            await self._journal.call(tables.plan_part, part)\n",
        new="",
        killer=f"{KILLS}[after]",
    ),
    "entries are deleted before their parts are marked": Mutant(
        file="store/publish.py",
        old="                named = await self._write(taken, marks)\n",
        new='                await self._journal.call(lambda db: db.execute("DELETE FROM entries"))\n'
        "                named = await self._write(taken, marks)\n",
        killer=f"{KILLS}[before]",
    ),
    "a part is written under its own name": Mutant(
        file="store/parts.py",
        old='return final.with_name(f".{final.name}.tmp")',
        new="return final",
        killer=f"{KILLS}[torn]",
    ),
    "a caption enters before its failure leaves": Mutant(
        file="store/publish_plan.py",
        old="FOLDERS = (FAILURES, REQUESTS, CAPTIONS)",
        new="FOLDERS = (CAPTIONS, REQUESTS, FAILURES)",
        killer=f"{KILLS}[after]",
    ),
    "the lock is not taken": Mutant(
        file="store/lock.py",
        old="        if _try(fd, fcntl.LOCK_EX):\n",
        new="        if True:\n",
        killer="tests/store/test_lock.py::test_a_lock_that_names_nobody_holds_all_the_same",
    ),
    "a permit is given before it is in the ledger": Mutant(
        file="ratelimit/gate.py",
        old="        if self._kept is not None:\n            return await self._reserve(",
        new="        if False:\n            return await self._reserve(",
        killer="tests/ratelimit/test_gate.py",
    ),
    "a reservation is not counted": Mutant(
        file="ratelimit/ledger.py",
        old="self.generation, self._insert(db, claim, view, now)",
        new="self.generation, 0",
        killer="tests/ratelimit/test_ledger.py",
    ),
}


QUICK = [
    "a part is named before it is synced",
    "the lock is not taken",
    "a reservation is not counted",
]
TRIED = weekly(list(MUTANTS), QUICK)


def test_what_is_taken_out_is_there() -> None:
    """The text of each mutant stands once in its file."""
    for name, mutant in MUTANTS.items():
        text = (ROOT / "pipeline" / mutant.file).read_text()
        assert text.count(mutant.old) == 1, f"mend the mutant: {name}"


def copied(folder: Path) -> Path:
    """The program and its tests, to be changed."""
    folder.mkdir()
    for name in ("pipeline", "tests"):
        shutil.copytree(ROOT / name, folder / name)  # what is compiled already, too
    for name in ("pyproject.toml", "configs", "data"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def suite(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A pytest run on the copy."""
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "WEEKLY": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=copy, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.faults
@pytest.mark.parametrize("name", TRIED)
def test_some_test_fails_without_it(name: str, tmp_path: Path) -> None:
    """The test that watches it fails, by its own assertion."""
    mutant, copy = MUTANTS[name], copied(tmp_path / "copy")
    path = copy / "pipeline" / mutant.file
    path.write_text(path.read_text().replace(mutant.old, mutant.new))
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()

    found = suite(copy, "-m", "pytest", "-x", "-m", "", "-p", "no:cacheprovider", mutant.killer)

    assert found.returncode == 1, found.stdout[-2000:] + found.stderr[-2000:]


@pytest.mark.faults
def test_the_copy_is_what_is_tested(tmp_path: Path, table: Table) -> None:
    """The mutants' tests import the copy, and without a mutant they pass."""
    copy = copied(tmp_path / "copy")
    told = suite(copy, "-c", "import pipeline; print(pipeline.__file__)")
    assert told.stdout.startswith(str(copy))
    found = suite(copy, "-m", "pytest", "-x", "-m", "", "tests/faults/test_power.py", "-k", "some")
    assert found.returncode == 0, found.stdout[-2000:]
    if left := len(MUTANTS) - len(TRIED):
        table.not_run("safeguards taken out", f"{left} of {len(MUTANTS)}; `make weekly` tries them")
