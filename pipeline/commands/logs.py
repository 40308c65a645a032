"""Log lines: to the run's file in `_state/logs`, and to stderr without tearing the progress line.

No secret passes: the key is replaced wherever it would appear, also base64 and URL-encoded, and
control characters (a caption could hold terminal commands) are escaped.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pipeline import fs
from pipeline.redact import hidden, spellings, without_controls

if TYPE_CHECKING:
    from pipeline.captioning.inputs import Environment
    from pipeline.service.endpoint import Secret

KEEP_FILES, KEEP_BYTES = 30, 50_000_000


class Formatter(logging.Formatter):
    """UTC time, level, words; secrets and control characters taken out."""

    converter = staticmethod(time.gmtime)

    def __init__(self, form: str, secrets: Sequence[Secret]) -> None:
        super().__init__(form, datefmt="%Y-%m-%dT%H:%M:%SZ")
        self._hidden = spellings([secret.reveal() for secret in secrets])

    def format(self, record: logging.LogRecord) -> str:
        return without_controls(hidden(super().format(record), self._hidden))


class JsonFormatter(Formatter):
    """One JSON object a line: at, level, message."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        level = record.levelname.lower()
        line = {"at": at, "level": level, "message": super().format(record)}
        return json.dumps(line, ensure_ascii=False)


class _Stream(logging.Handler):
    """To the environment's stream; on a terminal through tqdm, which moves the progress line out of
    the way."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(logging.INFO)
        self._stream = environment.stream

    def emit(self, record: logging.LogRecord) -> None:
        if self._stream is None:
            return
        if not self._stream.isatty():
            self._stream.write(self.format(record) + "\n")
            return
        from tqdm import tqdm

        tqdm.write(self.format(record), file=self._stream)


class _File(logging.StreamHandler[TextIO]):
    """A log that cannot be written, on a full disk, ends nothing and says nothing."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        pass


@contextmanager
def logging_to(
    folder: Path,
    run_id: str,
    environment: Environment,
    secrets: Sequence[Secret],
    *,
    as_json: bool = False,
) -> Iterator[None]:
    """Log into `folder/RUN_ID.log` and to the world's stream inside the block."""
    log = logging.getLogger("pipeline")
    fs.make_private_dir(folder)
    prune(folder)
    path = folder / f"{run_id}.log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, fs.PRIVATE_FILE)
    with _closing(os.fdopen(fd, "a", encoding="utf-8", errors="replace")) as stream:
        file = _File(stream)
        formatter = JsonFormatter("%(message)s", secrets) if as_json else None
        file.setFormatter(formatter or Formatter("%(asctime)s %(levelname)s %(message)s", secrets))
        terminal = _Stream(environment)
        terminal.setFormatter(formatter or Formatter("%(message)s", secrets))
        log.setLevel(logging.INFO)
        log.propagate = False
        log.addHandler(file)
        log.addHandler(terminal)
        try:
            yield
        finally:
            log.removeHandler(file)
            log.removeHandler(terminal)


@contextmanager
def _closing(stream: TextIO) -> Iterator[TextIO]:
    """Closed at the end, whatever of it could not be written."""
    try:
        yield stream
    finally:
        with suppress(OSError):
            stream.close()


def prune(folder: Path) -> None:
    """Keep the last 30 logs and 50 MB of them."""
    total = 0
    files = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
    for index, path in enumerate(files):
        total += path.stat().st_size
        if index >= KEEP_FILES - 1 or total > KEEP_BYTES:
            path.unlink()
