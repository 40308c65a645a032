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
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captioning.interpret import derive
from pipeline.captioning.parse_reply import parse_pack
from pipeline.captioning.record_builder import PLAIN, Reading
from pipeline.checks.checks import Checks
from pipeline.checks.settings import ChecksSettings
from pipeline.commands.init import template
from pipeline.config.job import load_job
from pipeline.errors import ImageError, JobError, ManifestError
from pipeline.images.encode import encode
from pipeline.model import Form, Reply
from pipeline.service.body import read_stream
from pipeline.service.classify import classify
from pipeline.verdict import Kind
from tests.captioning.made import sent as sent_as
from tests.captioning.test_fields import FIELDS
from tests.manifest.made import opened, rows_of
from tests.service.bodies import CASES, NOW, chat, raw
from tests.support.pictures import picture

FEW, SECONDS = 300, 600.0
#: Target -> numbers of inputs that once broke it.
KEPT: dict[str, tuple[int, ...]] = {
    # A message of hundreds of brackets kept a pattern busy for half a minute.
    "reply": (1_796_238_188,),
}


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


#: What stands where something else is meant.
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**30, 0.5, float("inf"), "", " ", "0", "1e999", "\ud800", "x" * 3_000),
    *([], {}, [None], [[]], {"a": 1}, {"image": 1, "caption": "A caption."}),
)


def reshaped(value: Any, rng: random.Random) -> Any:
    """A JSON value, some of whose parts are something odd, another part of it, or nested deeply."""
    whole = json.loads(json.dumps({"": value}))
    for _ in range(rng.choice([1, 1, 2, 5])):
        places = list(places_in(whole))
        inside, name = rng.choice(places)
        match rng.randrange(5):
            case 0 | 1:
                inside[name] = deepcopy(rng.choice(ODD))
            case 2:
                other, its = rng.choice(places)
                inside[name] = deepcopy(other[its])
            case 3:
                inside[name] = [inside[name]] if rng.random() < 0.5 else {"error": inside[name]}
            case _:
                inside[name] = json.dumps(inside[name])
    if rng.random() < 0.05:
        inside, name = rng.choice(list(places_in(whole)))
        inside[name] = deepcopy(rng.choice(ODD))
        for _ in range(rng.choice([100, 400, 700])):
            inside[name] = [inside[name]]
    return whole[""]


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container of a JSON value, with each of its names or numbers."""
    waiting = [value]
    while waiting:
        here = waiting.pop()
        for name in here if isinstance(here, dict) else range(len(here)):
            yield here, name
            if isinstance(here[name], dict | list):
                waiting.append(here[name])


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


BODIES = [case[2] for case in CASES.values()] + [chat()]
SHAPED = [body for body in BODIES if not isinstance(body, bytes)]
ENTRIES = {"captions": [{"image": n, "caption": f"Image {n} shows it."} for n in range(1, 6)]}
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
STATUSES = [200, 200, 200, 400, 401, 402, 403, 404, 408, 429, 500, 502, 503, 529, 302]
FORMS: tuple[Form, ...] = ("plain", "fields", "pack", "audit")
READINGS = (PLAIN, Reading(fields=FIELDS, checks=Checks(ChecksSettings(), ["What is it?"])))


def reply(rng: random.Random, _: Path) -> None:
    """A known body or an answer to a pack, damaged or of another shape, under any status: exactly one
    class, and records of no images but its own that can be stored."""
    if rng.random() < 0.5:
        body = damaged(raw(rng.choice(BODIES)), rng, TOKENS)
    elif rng.random() < 0.5:
        body = raw(reshaped(rng.choice(SHAPED), rng))
    else:
        text = json.dumps(reshaped(ENTRIES, rng))
        body = raw(chat(text, finish=rng.choice(["stop", "length", "content_filter", None])))
    answer = Reply(
        status=rng.choice(STATUSES),
        headers={
            "content-type": "application/json",
            "retry-after": rng.choice(["5", "x", "-1", "1e9"]),
        },
        body=body,
        latency_ms=1,
        at=int(NOW * 1e6),
    )
    sent = sent_as(rng.choice([1, 2, 5]), rng.choice(FORMS))
    outcome = derive(sent, answer, reading=rng.choice(READINGS))
    assert outcome.verdict.kind
    keys = [record.key for record in outcome.records]
    assert len(set(keys)) == len(keys)
    assert set(keys) <= {asked.key for asked in sent.items}
    for record in outcome.records:
        assert (record.caption is not None) is (record.status == "ok")
        assert record.caption is None or record.caption.strip()
        assert all(text.encode() is not None for text in record if isinstance(text, str))
    pack = parse_pack(
        damaged(json.dumps(ENTRIES).encode(), rng, TOKENS).decode("utf-8", "replace"), 5
    )
    assert pack.captions.keys() <= set(range(1, 6))
    assert all(pack.captions.values())


def event_stream(rng: random.Random, _: Path) -> None:
    """A streamed answer, damaged or of another shape: one completion or nothing."""
    chunks: list[Any] = [
        {"choices": [{"delta": {"content": word}, "finish_reason": None}]}
        for word in ["A", "cat", "."]
    ]
    chunks.append(
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"total_tokens": 3}}
    )
    is_reshaped = rng.random() < 0.5
    if is_reshaped:
        chunks = [reshaped(chunk, rng) if rng.random() < 0.5 else chunk for chunk in chunks]
    whole = b": PROCESSING\n\n" + b"".join(b"data: " + raw(one) + b"\n\n" for one in chunks)
    whole += b"data: [DONE]\n\n"
    if not is_reshaped:
        whole = damaged(whole, rng, (b"data: ", b"\n", *TOKENS))
    found = read_stream(whole)
    assert found is None or isinstance(found, dict)
    answer = Reply(status=200, headers={}, body=whole, latency_ms=1, at=int(NOW * 1e6))
    verdict, completion = classify(answer, now=NOW)
    assert (completion is not None) or verdict.kind is not Kind.OK


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
    made: set[Any] = {
        damaged(json.dumps(ENTRIES).encode(), random.Random(n), TOKENS) for n in range(200)
    }

    assert len(made) > 190
