"""Pictures that kill their decoder: they fail alone, in bounded memory, and quickly."""

from __future__ import annotations

import asyncio
import ctypes
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image as Pil

from pipeline.errors import ImageError
from pipeline.images.encode import encode
from pipeline.images.workers import Workers
from tests.images.hosts import code_of
from tests.support.command import ROOT, environment, until
from tests.support.pictures import picture


def crash(_: bytes) -> str:
    """A decoder with a bug: a null pointer is written through."""
    ctypes.memset(0, 0, 1)
    return "alive"


def crash_once(flag: str) -> str:
    """Killed from outside, as the out-of-memory killer does, but only the first time."""
    path = Path(flag)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def hoard(_: bytes) -> int:
    """A decoder that asks for more than a picture may have."""
    return len(bytearray(600_000_000))


def pid(_: bytes) -> int:
    return os.getpid()


def pid_of_one(seconds: float) -> int:
    """Busy for so long that the next picture goes to another worker."""
    time.sleep(seconds)
    return os.getpid()


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated: small to send, endless to decode.

    https://libjpeg-turbo.org/pmwiki/uploads/About/TwoIssueswiththeJPEGStandard.pdf
    """
    out = io.BytesIO()
    Pil.new("L", (6000, 6000), 128).save(out, "JPEG", progressive=True, quality=50)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def test_a_crash_fails_one_picture_alone() -> None:
    """Its neighbours in the other worker and those that follow are decoded."""

    async def load() -> tuple[list[str], str]:
        workers = Workers(2)
        try:
            jobs = [
                code_of(
                    workers.run(crash, b"") if n == 5 else workers.run(encode, picture(n), 768, 85)
                )
                for n in range(12)
            ]
            codes = list(await asyncio.gather(*jobs))
            return codes, await code_of(workers.run(encode, picture(1), 768, 85))
        finally:
            workers.close()

    codes, after = asyncio.run(load())
    assert codes == ["ok"] * 5 + ["corrupt"] + ["ok"] * 6
    assert after == "ok"


def test_a_worker_that_was_killed_from_outside_costs_no_picture(tmp_path: Path) -> None:
    """Its picture is tried once more in a fresh one."""

    async def load() -> str:
        workers = Workers(1)
        try:
            return await workers.run(crash_once, str(tmp_path / "flag"))
        finally:
            workers.close()

    assert asyncio.run(load()) == "alive"
    assert (tmp_path / "flag").exists()


#: A driver that is killed while its workers wait for pictures: tells their pids first.
KILLED = """
import asyncio, os, signal
from pipeline.images.workers import Workers
from tests.images.test_workers import pid_of_one

async def main():
    workers = Workers(2)
    found = await asyncio.gather(*[workers.run(pid_of_one, 0.3) for _ in range(2)])
    print(*found, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_no_worker_outlives_a_killed_driver(tmp_path: Path) -> None:
    """`kill -9` or the out-of-memory killer: nobody is left to end them, so they end themselves."""
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    with (tmp_path / "pids").open("w") as file:  # no pipe: workers that live on would hold it open
        done = subprocess.run([sys.executable, script], env=environment(), cwd=ROOT, stdout=file)
    assert done.returncode == -signal.SIGKILL
    pids = {int(word) for word in (tmp_path / "pids").read_text().split()}
    assert len(pids) == 2
    try:
        until(lambda: not any(map(psutil.pid_exists, pids)), seconds=20)
    finally:
        for one in filter(psutil.pid_exists, pids):
            os.kill(one, signal.SIGKILL)


def test_errors_of_a_picture_keep_their_code_and_their_worker() -> None:
    """An ImageError travels between processes whole; the worker stays as it was."""

    async def load() -> tuple[list[int], ImageError]:
        workers = Workers(1)
        try:
            first = await workers.run(pid, b"")
            with pytest.raises(ImageError) as caught:
                await workers.run(encode, b"%PDF-1.7", 768, 85)
            return [first, await workers.run(pid, b"")], caught.value
        finally:
            workers.close()

    pids, error = asyncio.run(load())
    assert pids[0] == pids[1] != os.getpid()
    assert error.code == "unsupported_format"
    assert error.message.startswith("a PDF")


def test_memory_of_a_worker_is_limited() -> None:
    """What asks for more than its share gets a MemoryError, not the machine's memory."""

    async def load() -> int:
        workers = Workers(1, memory=500_000_000)
        try:
            return await workers.run(hoard, b"")
        finally:
            workers.close()

    with pytest.raises(MemoryError):
        asyncio.run(load())


def test_a_picture_that_takes_too_long_is_ended() -> None:
    """Thousands of scans over 36 million pixels: the kernel ends the worker, others go on."""
    bomb = scans(4000)
    assert len(bomb) < 5_000_000

    async def load() -> list[str]:
        workers = Workers(2, seconds=1)
        try:
            jobs = [workers.run(encode, data, 768, 85) for data in (bomb, picture(1), picture(2))]
            return [await one for one in [asyncio.ensure_future(code_of(job)) for job in jobs]]
        finally:
            workers.close()

    assert asyncio.run(load()) == ["corrupt", "ok", "ok"]


def test_the_scans_are_only_slow() -> None:
    """The control: with few of them the same file is a picture."""
    assert encode(scans(2), 768, 85).width == 768


#: Loads pictures through the whole loader, in a process of its own, and tells the code of the
#: last one and the most memory that this process and its worker ever had.
CHILD = """
import asyncio, sys
from tests.images.hosts import code_of, images, peak_mb

async def load():
    async with images() as loader:
        for name in sys.argv[1:]:
            code = await code_of(loader.load(name, inline=True))
        print(code, peak_mb(), await loader._workers.run(peak_mb))

if __name__ == "__main__":
    asyncio.run(load())
"""


def measured(folder: Path, *files: Path) -> tuple[str, int, int]:
    """Code, MB of the driver, MB of its worker."""
    script = folder / "child.py"
    script.write_text(CHILD)
    done = subprocess.run(
        [sys.executable, script, *files],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    code, own, workers = done.stdout.rsplit("\n", 2)[-2].split()
    return code, int(own), int(workers)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_bombs_cost_no_memory(tmp_path: Path) -> None:
    """A few KB that decode to hundreds of MB are refused; 48 million pixels of a camera are not."""
    small = tmp_path / "small.png"
    small.write_bytes(picture(1, form="PNG"))
    code, own, workers = measured(tmp_path, small)
    print(f"\n{'file':>22} {'bytes':>9} {'code':>16} {'driver':>7} {'worker':>7}  (+ MB)")
    assert code == "ok"
    table: dict[str, tuple[bytes, str, int]] = {}
    for side in (9_400, 13_000, 30_000):
        out = io.BytesIO()
        Pil.new("1", (side, side)).save(out, "PNG", compress_level=9)
        table[f"{side} x {side} png"] = (out.getvalue(), "too_many_pixels", 50)
    photo = io.BytesIO()
    noise = Pil.effect_noise((800, 600), 60).resize((8000, 6000)).convert("RGB")
    noise.save(photo, "JPEG", quality=90)
    table["8000 x 6000 jpg"] = (photo.getvalue(), "ok", 60)
    assert len(table["9400 x 9400 png"][0]) < 20_000
    for name, (data, wanted, most) in table.items():
        path = tmp_path / name.replace(" ", "")
        path.write_bytes(data)
        got, driver, worker = measured(tmp_path, small, path)
        print(f"{name:>22} {len(data):>9} {got:>16} {driver - own:>+7} {worker - workers:>+7}")
        assert got == wanted
        assert driver - own < 40
        assert worker - workers < most, name
