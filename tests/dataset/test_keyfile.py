"""The keys of all rows come back as they were named, whatever the disk does."""

from __future__ import annotations

import random
import resource
from pathlib import Path

import pytest

from pipeline.stories.keyfile import KeyFile


@pytest.mark.parametrize("disk", ["well", "full", "full half-way", "no folder"])
def test_every_row_has_its_key(disk: str, tmp_path: Path) -> None:
    """One by one, by the run, and behind the last one there is none; no file is left or seen."""
    rng = random.Random(1)
    keys = [rng.randbytes(16) for _ in range(5_000)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = {"full": 0, "full half-way": 40_000}.get(disk, before[0])
    folder = tmp_path / "none" if disk == "no folder" else tmp_path
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        file = KeyFile(b"".join(keys), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    some = [0, 1, 2_047, 2_048, 4_999, 17, 2_600]
    assert [file.of(ordinal) for ordinal in some] == [keys[ordinal] for ordinal in some]
    assert file.read(4_990, 100) == b"".join(keys[4_990:])
    assert file.read(5_000, 1) == b""
    assert list(tmp_path.iterdir()) == []
