"""What comes from outside, damaged in every way: a value or a named error, never anything else.

Each input follows from its target's name and a number, so that a failure names the number that
makes it again; numbers that once failed stay in `KEPT` and are tried first. `make test` tries a
few hundred of each, `make weekly` as many as ten minutes hold.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning.parse_reply import parse_pack
from pipeline.commands.init import template
from pipeline.config.job import load_job
from pipeline.errors import ImageError, JobError, ManifestError
from pipeline.images.encode import encode
from pipeline.model import Reply
from pipeline.service.body import read_stream
from pipeline.service.classify import classify
from tests.manifest.made import opened, rows_of
from tests.service.bodies import CASES, NOW, chat, raw
from tests.support.pictures import picture

FEW, SECONDS = 300, 600.0
#: Target -> numbers of inputs that once broke it.
KEPT: dict[str, tuple[int, ...]] = {}


def damaged(whole: bytes, rng: random.Random, tokens: tuple[bytes, ...] = ()) -> bytes:
    """Bytes changed, cut out, doubled, put in, swapped; or the end cut off."""
    out = bytearray(whole)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8, 40])):
        at = rng.randrange(len(out) + 1)
        to = min(len(out), at + rng.choice([1, 2, 4, 16, 200]))
        match rng.randrange(8):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(out):
                out[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
            case 2:
                del out[at:to]
            case 3:
                out[at:at] = out[at:to]
            case 4:
                out[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 5:
                del out[at:]
            case 6 if tokens:
                out[at:at] = rng.choice(tokens)
            case _:
                other = rng.randrange(len(out) + 1)
                out[at:to] = out[other : other + to - at]
    return bytes(out)


def job_file(rng: random.Random, folder: Path) -> None:
    """The commented template, damaged."""
    words = (
        b"${X}",
        b"&a ",
        b"*a",
        b"!!python/object:os.system ",
        b"? ",
        b"{",
        b"[",
        b"|\n",
        b"1e999",
    )
    path = folder / "job.yaml"
    path.write_bytes(damaged(template("job").encode(), rng, words))
    try:
        load_job(path, (), {"X": "x"})
    except JobError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most inputs are refused, and one line says why


def csv_file(rng: random.Random, folder: Path) -> None:
    """A CSV manifest, damaged; sometimes compressed, and damaged then."""
    text = "id,image_url,title\n" + "".join(
        f'{n},https://images.example/{n}.jpg,"a ""title"", {n}"\n' for n in range(40)
    )
    whole, ending = text.encode(), "csv"
    if rng.random() < 0.3:
        whole, ending = gzip.compress(whole, mtime=0), "csv.gz"
    path = folder / f"manifest.{ending}"
    path.write_bytes(damaged(whole, rng, (b'"', b"\x00", b"\r", b"\xff\xfe", b",,,,", b"\n\n")))
    read(path)


def parquet_footer(rng: random.Random, folder: Path) -> None:
    """A Parquet manifest whose footer is damaged: the part that says what all else is."""
    path = folder / "manifest.parquet"
    urls = [f"https://images.example/{n % 7}.jpg" for n in range(200)]
    pq.write_table(pa.table({"id": list(range(200)), "image_url": urls}), path, row_group_size=64)
    whole = path.read_bytes()
    size = int.from_bytes(whole[-8:-4], "little")
    start = len(whole) - 8 - size
    footer = damaged(whole[start:-8], rng)
    told = len(footer) if rng.random() < 0.9 else rng.randrange(2**32)
    path.write_bytes(whole[:start] + footer + told.to_bytes(4, "little") + b"PAR1")
    read(path)


def read(path: Path) -> None:
    """All rows of a manifest, or one line."""
    try:
        rows_of(opened(path))
    except ManifestError as error:
        assert "\n" not in str(error)  # noqa: PT017 - as above
        assert str(path) in str(error)  # noqa: PT017


PICTURES = {form: picture(5, 48, form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")}


def image(rng: random.Random, _: Path) -> None:
    """A picture of any format, damaged: a picture comes out, or a code."""
    form = rng.choice(sorted(PICTURES))
    try:
        made = encode(damaged(PICTURES[form], rng), 64, 85)
    except ImageError as error:
        assert error.code in ("unsupported_format", "corrupt", "too_many_pixels")  # noqa: PT017
    else:
        assert made.data is not None
        assert made.data[:2] == b"\xff\xd8"


BODIES = [raw(case[2]) for case in CASES.values()] + [raw(chat())]
PACK = json.dumps(
    {"captions": [{"image": n, "caption": f"Image {n} shows it."} for n in range(1, 6)]}
)
TOKENS = (
    b'{"',
    b'"}',
    b"[",
    b"]",
    b"null",
    b"1e999",
    b"\\ud800",
    b'"error":',
    b"\xff",
    b'"choices":',
)


def reply(rng: random.Random, _: Path) -> None:
    """A known body, damaged, under any status: exactly one class; a pack: only its own numbers."""
    body = damaged(rng.choice(BODIES), rng, TOKENS)
    status = rng.choice([200, 200, 200, 400, 401, 402, 403, 404, 408, 429, 500, 502, 503, 529, 302])
    headers = {
        "content-type": "application/json",
        "retry-after": rng.choice(["5", "x", "-1", "1e9"]),
    }
    verdict, _ = classify(
        Reply(status=status, headers=headers, body=body, latency_ms=1, at=1), now=NOW
    )
    assert verdict.kind
    text = damaged(PACK.encode(), rng, TOKENS).decode("utf-8", "replace")
    pack = parse_pack(text, 5)
    assert pack.captions.keys() <= set(range(1, 6))
    assert all(pack.captions.values())


def event_stream(rng: random.Random, _: Path) -> None:
    """A streamed answer, damaged: one completion or nothing."""
    chunks = [
        {"choices": [{"delta": {"content": word}, "finish_reason": None}]}
        for word in ["A", "cat", "."]
    ]
    chunks.append(
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"total_tokens": 3}}
    )
    whole = b": PROCESSING\n\n" + b"".join(b"data: " + raw(one) + b"\n\n" for one in chunks)
    found = read_stream(damaged(whole + b"data: [DONE]\n\n", rng, (b"data: ", b"\n", *TOKENS)))
    assert found is None or isinstance(found, dict)


TARGETS: dict[str, Callable[[random.Random, Path], None]] = {
    "job file": job_file,
    "CSV": csv_file,
    "Parquet footer": parquet_footer,
    "image": image,
    "reply": reply,
    "event stream": event_stream,
}


def tried(target: str, numbers: Iterator[int], folder: Path) -> int:
    """Try one input after the other; how many."""
    act, count = TARGETS[target], 0
    for number in numbers:
        try:
            act(random.Random(f"{target} {number}"), folder)
        except Exception as error:
            raise AssertionError(f"{target}, input {number}: {error!r}") from error
        count += 1
    return count


@pytest.mark.filterwarnings("default")  # decoders warn of odd metadata in their own ways
@pytest.mark.parametrize("target", TARGETS)
def test_some_inputs(target: str, tmp_path: Path) -> None:
    """Those that once failed, and the first few hundred."""
    kept = KEPT.get(target, ())

    assert tried(target, iter((*kept, *range(FEW))), tmp_path) == FEW + len(kept)


@pytest.mark.weekly
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("target", TARGETS)
def test_inputs_for_ten_minutes(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """New ones every week: from where the clock stands on."""
    first, end = int(time.time()), time.monotonic() + SECONDS

    def numbers() -> Iterator[int]:
        number = first
        while time.monotonic() < end:
            yield number
            number += 1

    count = tried(target, numbers(), tmp_path)
    with capsys.disabled():
        print(f"\n{target}: {count} inputs from {first} on")
    assert count > 100


def test_the_damage_is_real() -> None:
    """Most inputs differ from what they were made of, and from each other."""
    made: set[Any] = {damaged(PACK.encode(), random.Random(n), TOKENS) for n in range(200)}

    assert len(made) > 190
