"""Images that go as bytes: the whole command against Pillow, base64 and a raw post.

    python bench/inlined.py [--images N] [--rounds R] [--pixels P] [--limit RATIO]

Local JPEGs are shrunk to 768 px, put into base64 and posted, by the command with everything on and
by the loop that anyone would write, turn by turn, to the same loopback server. CPU is user + system
of the client and all its workers, start-up taken out by runs over few images. Cores: CPU seconds for
each second that passed, of two when the server costs next to nothing. With --limit the command
fails when the ratio of CPU an image is above it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from images import photographs
from overhead import fewest, service
from PIL import Image as Pil
from wire import question

HERE = Path(__file__).parent
SIDE, QUALITY, WORKERS = 768, 85, 8


def shrunk(path: Path) -> str:
    """A data URI of the picture, as Pillow's documentation has it."""
    out = io.BytesIO()
    with Pil.open(path) as picture:
        picture.draft("RGB", (SIDE, SIDE))
        picture.thumbnail((SIDE, SIDE), Pil.Resampling.LANCZOS)
        picture.convert("RGB").save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


async def raw(base: str, folder: Path, count: int) -> None:
    """The baseline: plain Pillow, plain aiohttp, plain json; nothing checked, nothing kept."""
    import aiohttp

    numbers = iter(range(count))
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer bench"}) as session:

        async def worker() -> None:
            for number in numbers:
                body = question(shrunk(folder / f"{number:06d}.jpg"))
                async with session.post(f"{base}/chat/completions", json=body) as response:
                    answer = json.loads(await response.read())
                    assert answer["choices"][0]["message"]["content"]

        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(worker())


def spent(words: list[str], cwd: Path) -> tuple[float, float]:
    """(CPU seconds with all children, wall seconds) of a command that must succeed."""
    started = time.perf_counter()
    env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=cwd,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)  # on Linux with the children it has waited for
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise SystemExit(f"{words}: exit {process.returncode}\n{said}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - started


def theirs(base: str, folder: Path, count: int) -> tuple[float, float]:
    return spent([str(HERE / "inlined.py"), "--raw", base, str(folder), str(count)], folder)


def ours(base: str, folder: Path, count: int) -> tuple[float, float]:
    """A fresh job over `count` files, everything on."""
    with tempfile.TemporaryDirectory() as name:
        rows = "".join(f"{folder}/{number:06d}.jpg\n" for number in range(count))
        (Path(name) / "files.csv").write_text("image\n" + rows)
        job = {
            "manifest": {"path": "files.csv"},
            "images": {"root": str(folder), "max_side": SIDE, "quality": QUALITY},
            "endpoint": {"profile": "openai", "base_url": base, "model": "bench/fixed"},
            "quota": {"concurrency": WORKERS},
        }
        (Path(name) / "job.yaml").write_text(json.dumps(job))
        return spent(["-m", "pipeline", "run", "job.yaml", "--yes"], Path(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pixels", type=float, default=12e6)
    parser.add_argument("--limit", type=float)
    parser.add_argument("--raw", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.raw:
        asyncio.run(raw(asked.raw[0], Path(asked.raw[1]), int(asked.raw[2])))
        return
    pictures = photographs(asked.pixels)
    with tempfile.TemporaryDirectory() as name, service() as base:
        folder = Path(name)
        for number in range(asked.images):
            # A byte after the picture makes each file another image, which costs no decoder more.
            data = pictures[number % len(pictures)] + str(number).encode()
            (folder / f"{number:06d}.jpg").write_bytes(data)
        few = len(pictures)
        start = fewest([theirs(base, folder, few) for _ in range(2)])
        start_ours = fewest([ours(base, folder, few) for _ in range(2)])
        ratios, cores = [], []
        for _ in range(asked.rounds):
            count = asked.images - few
            plain, mine = theirs(base, folder, asked.images), ours(base, folder, asked.images)
            each = [
                (one[0] - zero[0]) / count for one, zero in ((plain, start), (mine, start_ours))
            ]
            ratios.append(each[1] / each[0])
            cores.append((mine[0] - start_ours[0]) / (mine[1] - start_ours[1]))
            print(
                f"raw {each[0] * 1e3:.1f} CPU-ms an image; ours {each[1] * 1e3:.1f}; "
                f"ratio {ratios[-1]:.2f}; cores in use {cores[-1]:.2f}",
                flush=True,
            )
    ratio = statistics.median(ratios)
    print(
        f"median: CPU {ratio:.2f} x Pillow, base64 and a raw post; "
        f"{statistics.median(cores):.2f} cores in use ({asked.images} images of "
        f"{asked.pixels / 1e6:.0f} Mpx, {os.cpu_count()} cores)"
    )
    if asked.limit is not None and ratio > asked.limit:
        raise SystemExit(f"CPU ratio {ratio:.2f} is above {asked.limit}")


if __name__ == "__main__":
    main()
