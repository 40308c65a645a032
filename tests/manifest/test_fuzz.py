"""Damaged manifests of every format: rows or one clear line, never a traceback, never a crash."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.errors import ManifestError, PipelineError
from tests.manifest.made import TABLES, opened, rows_of, shard

FORMATS = [*TABLES, "l.tar"]


def _made(name: str, folder: Path) -> bytes:
    path = folder / name
    if name == "l.tar":
        endings = ("jpg", "txt", "json")
        shard(path, {f"{i}.{end}": b"x" * 50 for i in range(5) for end in endings})
    else:
        TABLES[name](path)
    return path.read_bytes()


def _damaged(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, put in or doubled, or the end cut off."""
    out = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0 | 1 if at < len(out):
                out[at] = rng.randrange(256)
            case 2:
                del out[at:]
            case 3:
                out[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                del out[at : at + rng.randrange(1, 9)]
            case _:
                out[at:at] = out[at // 2 : at]
    return bytes(out)


def _read_damaged(name: str, folder: Path, times: int) -> tuple[int, int]:
    """(read, refused) of so many damaged files."""
    content, rng = _made(name, folder), random.Random(name)
    path = folder / f"damaged-{name}"
    read, refusals = 0, []
    for _ in range(times):
        path.write_bytes(_damaged(content, rng))
        try:
            manifest = opened(path)
            rows = rows_of(manifest)
            assert len(rows) == sum(batch.num_rows for batch in (t for t, _ in manifest.tables()))
            read += 1
        except PipelineError as error:
            refusals.append(str(error))
    assert all("\n" not in words and str(path) in words for words in refusals)
    return read, len(refusals)


@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_one_line(name: str, tmp_path: Path) -> None:
    """200 damaged files of each format, the same ones every time."""
    read, refused = _read_damaged(name, tmp_path, 200)

    assert read + refused == 200
    assert refused > 20


@pytest.mark.weekly
@pytest.mark.parametrize("name", FORMATS)
def test_much_damage_is_one_line(name: str, tmp_path: Path) -> None:
    """20,000 damaged files of each format."""
    read, refused = _read_damaged(name, tmp_path, 20_000)

    assert read + refused == 20_000


def test_a_footer_that_claims_a_long_list_gets_no_room_for_it(tmp_path: Path) -> None:
    """900,000 columns in seven bytes: half a gigabyte was set aside for them before any was read."""
    footer = b"\x15\x04\x19\xfc\xa0\xf7\x36"  # version 2, a list of structs
    path = tmp_path / "claims.parquet"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")

    with pytest.raises(ManifestError, match="Exceeded size limit"):
        opened(path)
