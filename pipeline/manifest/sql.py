"""Set logic on all keys of a large manifest: which rows are left?

It is one DuckDB query over the manifest's rows and the published parts. The query runs in a child
process with a memory limit, where what does not fit goes to a scratch folder: importing
DuckDB alone costs 60 MB, and a hash table of ten million keys would stay in this process's heap.
Keys are computed there as SQL text that the caller gives, over the columns of `Manifest.feed`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from pipeline.errors import JobError, ManifestError, OutputError, PipelineError
from pipeline.manifest.settings import ManifestSettings

#: DuckDB's own memory; Python, Arrow and DuckDB's code come on top, some 250 MB.
MEMORY_MB = 200
#: Allocators that give memory back: with the default ones the child peaks 150 MB higher.
_LEAN = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
_ERRORS = {kind.__name__: kind for kind in (ManifestError, JobError, OutputError)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyed:
    """A manifest whose keys can be computed in SQL."""

    settings: ManifestSettings
    #: As given to `open_manifest`.
    columns: Sequence[str]
    #: DuckDB expression over the columns of `Manifest.feed`: 32 hex.
    key_sql: str
    #: Globs or files of the published parts (`captions/*.parquet`, `failures/*.parquet`).
    parts: Sequence[str]
    #: Where what does not fit into memory goes; on the disk of the output.
    scratch: Path
    memory_mb: int = MEMORY_MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What is left of a manifest, and what is settled."""

    #: One bit a row, least significant bit first: ask it. Set for the first row of each key
    #: that is not settled.
    ask: bytes
    #: The same for the first row of each key without a record, and of each that has failed.
    open: bytes
    lost: bytes
    rows: int
    #: Distinct keys.
    images: int
    #: Of them, those with a caption, and those that failed: code -> images.
    captioned: int
    failed: dict[str, int]
    #: Bits that are set.
    asked: int


def left(keyed: Keyed, *, again: str | None = None) -> Left:
    """The rows to ask. Blocking.

    again: SQL predicate on record columns; settled keys that fulfil it are asked again.
    """
    with _child(keyed, again) as source:
        reader = pa.ipc.open_stream(source)
        facts = json.loads(reader.schema.metadata[b"facts"])
        size = (facts["rows"] + 7) // 8
        (batch,) = reader  # as it stands in a message, not sliced
        ask, open_, lost = (
            column.buffers()[1].to_pybytes()[:size] if size else b"" for column in batch.columns
        )
    return Left(ask=ask, open=open_, lost=lost, **facts)


@contextmanager
def _child(keyed: Keyed, again: str | None) -> Iterator[Any]:
    """Run the query in a child; gives the pipe from which its answer comes."""
    keyed.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(keyed.scratch)
    with (
        tempfile.TemporaryDirectory(prefix=f"sql-{os.getpid()}-", dir=keyed.scratch) as scratch,
        tempfile.TemporaryFile() as words,
    ):
        spec = {
            "settings": keyed.settings.model_dump(),
            "columns": list(keyed.columns),
            "key_sql": keyed.key_sql,
            "parts": list(keyed.parts),
            "scratch": scratch,
            "memory_mb": keyed.memory_mb,
            "again": again,
        }
        here = str(Path(__file__).parents[2])
        paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.manifest.sql_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            env=os.environ | _LEAN | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # a Ctrl-C reaches this process, which decides
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            try:
                _tell(process, json.dumps(spec).encode())
                if not process.stdout.peek(1):  # type: ignore[attr-defined] # a BufferedReader
                    raise _failed(process, words)
                yield process.stdout
                if process.wait() != 0:
                    raise _failed(process, words)
            except pa.ArrowInvalid as error:  # the answer broke off
                raise _failed(process, words) from error
            finally:
                process.kill()


def _sweep(scratch: Path) -> None:
    """Remove what processes that were killed have left."""
    for folder in scratch.glob("sql-*"):
        pid = folder.name.split("-")[1]
        if pid.isdigit() and not Path("/proc", pid).exists() and Path("/proc").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _tell(process: subprocess.Popen[bytes], spec: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(spec)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it ended before it listened; its last words say why


def _failed(process: subprocess.Popen[bytes], words: Any) -> PipelineError:
    """The child's error as ours: its last line is the error as JSON, or a traceback's."""
    code = process.wait()
    words.seek(0)
    last = (words.read().decode("utf-8", "replace").strip().splitlines() or [""])[-1]
    try:
        told = json.loads(last)
        return _ERRORS[told["kind"]](told["message"])
    except (ValueError, KeyError, TypeError):
        return PipelineError(f"the manifest's SQL process ended with {code}: {last[:300]}")
