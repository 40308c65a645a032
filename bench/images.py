"""What it costs to make an image ready: against plain Pillow, and in memory.

Decoding: photographs of 12 megapixels to 768 px, images per CPU-second, each way in turn and the
best of several rounds, as a ratio to the loop that anyone would write with Pillow's `draft`.
Cores: the same through the worker processes, wall time against CPU time.
Memory: images of 5 MB from a local server, the most that driver and workers had together.

    python bench/images.py [--images N] [--rounds N] [--downloads N]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib import resources
from pathlib import Path

from PIL import Image as Pil

from pipeline.clock import SystemClock
from pipeline.images import fast
from pipeline.images.encode import encode
from pipeline.images.load import Images, open_images
from pipeline.images.settings import ImageSettings

SIDE, QUALITY = 768, 85
NAMES = (
    "coffee.png",
    "astronaut.png",
    "chelsea.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "retina.jpg",
)
ROOT = Path(__file__).resolve().parents[1]


def photographs(pixels: float = 12e6) -> list[bytes]:
    """JPEGs as a camera makes them, from scikit-image's photographs."""
    made = []
    for name in NAMES:
        data = resources.files("skimage").joinpath("data", name).read_bytes()
        picture = Pil.open(io.BytesIO(data)).convert("RGB")
        scale = (pixels / (picture.width * picture.height)) ** 0.5
        size = round(picture.width * scale), round(picture.height * scale)
        out = io.BytesIO()
        picture.resize(size, Pil.Resampling.LANCZOS).save(out, "JPEG", quality=90)
        made.append(out.getvalue())
    return made


def plain(data: bytes) -> None:
    """The loop to beat: Pillow's documentation, nothing checked."""
    with Pil.open(io.BytesIO(data)) as picture:
        picture.draft("RGB", (SIDE, SIDE))
        picture.thumbnail((SIDE, SIDE), Pil.Resampling.LANCZOS)
        picture.convert("RGB").save(io.BytesIO(), "JPEG", quality=QUALITY)


def tight(data: bytes) -> None:
    """The same, told the exact final size: the least that Pillow can do."""
    with Pil.open(io.BytesIO(data)) as picture:
        scale = SIDE / max(picture.size)
        size = round(picture.width * scale), round(picture.height * scale)
        picture.draft("RGB", size)
        picture.resize(size, Pil.Resampling.LANCZOS, reducing_gap=2.0).save(
            io.BytesIO(), "JPEG", quality=QUALITY
        )


def ours(data: bytes) -> None:
    encode(data, SIDE, QUALITY)


def pillow(data: bytes) -> None:
    """Ours without the extra."""
    kept, fast.simplejpeg = fast.simplejpeg, None
    try:
        encode(data, SIDE, QUALITY)
    finally:
        fast.simplejpeg = kept


def rates(pictures: list[bytes], count: int, rounds: int) -> dict[str, float]:
    """Images per CPU-second of each way, the best round."""
    ways: dict[str, Callable[[bytes], None]] = {"plain": plain, "tight": tight, "pillow": pillow}
    if fast.simplejpeg is not None:
        ways["fast"] = ours
    best = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):
        for name, way in ways.items():
            before = time.process_time()
            for number in range(count):
                way(pictures[number % len(pictures)])
            best[name] = max(best[name], count / (time.process_time() - before))
    return best


async def use_of_cores(pictures: list[bytes], count: int) -> tuple[float, float]:
    """CPU seconds of the workers for each second that passed, and of nobody."""
    async with opened() as images:
        await asyncio.gather(*(images.load(pictures[0], inline=True) for _ in range(8)))
        workers = images._workers
        pids = [pid for pool in workers._pools if pool for pid in pool._processes]
        spent, before, free = cpu(pids), time.perf_counter(), idle()
        loads = (images.load(pictures[n % len(pictures)], inline=True) for n in range(count))
        await asyncio.gather(*loads)
        seconds = time.perf_counter() - before
        return (cpu(pids) - spent) / seconds, (idle() - free) / seconds


def idle() -> float:
    """Seconds that the machine's cores have been idle so far."""
    with open("/proc/stat") as file:
        return int(file.readline().split()[4]) / os.sysconf("SC_CLK_TCK")


def cpu(pids: list[int]) -> float:
    """CPU seconds of processes so far."""
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def opened(port: int | None = None) -> AbstractAsyncContextManager[Images]:
    allow = [] if port is None else [f"127.0.0.1:{port}"]
    settings = ImageSettings(allow=allow, max_side=SIDE, quality=QUALITY)
    return open_images(settings, folder=None, clock=SystemClock(), concurrency=64)


SERVER = """
import asyncio, sys
body = open(sys.argv[1], "rb").read()
head = f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n".encode()
async def serve(reader, writer):
    try:
        while await reader.readuntil(b"\\r\\n\\r\\n"):
            writer.write(head); writer.write(body); await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def memory(pids: list[int]) -> float:
    """MB that processes have now; pages they share counted once."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return total / 1024


async def downloads(port: int, count: int, at_once: int = 64) -> tuple[float, float]:
    """The most memory of driver and workers together, in MB, and images a second."""
    most, numbers, before = 0.0, iter(range(count)), time.perf_counter()
    async with opened(port) as images:

        async def worker() -> None:
            for number in numbers:
                await images.load(f"http://127.0.0.1:{port}/{number}", inline=True)

        async def watch() -> None:
            nonlocal most
            while True:
                pids = [p for pool in images._workers._pools if pool for p in pool._processes or ()]
                most = max(most, memory([os.getpid(), *pids]))
                await asyncio.sleep(0.05)

        watching = asyncio.create_task(watch())
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
        watching.cancel()
    return most, count / (time.perf_counter() - before)


def served(count: int) -> tuple[float, float, int]:
    """`downloads` in a fresh process, so that nothing made here counts; and bytes of an image."""
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder, "image.jpg")
        # A comment segment would be skipped unread; real pixels are not.
        body.write_bytes(large())
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, body], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            told = subprocess.run(
                [sys.executable, __file__, "--only-downloads", port, "--downloads", str(count)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        finally:
            server.kill()
            server.wait()
            if server.stdout is not None:
                server.stdout.close()
        most, rate = map(float, told.stdout.split())
        return most, rate, body.stat().st_size


def large() -> bytes:
    """A photograph of 5 MB."""
    data = resources.files("skimage").joinpath("data", "coffee.png").read_bytes()
    picture = Pil.open(io.BytesIO(data)).convert("RGB").resize((4000, 3000))
    noise = Pil.effect_noise(picture.size, 24).convert("RGB")
    picture = Pil.blend(picture, noise, 0.35)
    quality, out = 60, io.BytesIO()
    while out.tell() < 5_000_000 and quality < 98:
        quality, out = quality + 3, io.BytesIO()
        picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--images", type=int, default=24, help="images a round and way")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--downloads", type=int, default=200, help="images of 5 MB; 0: none")
    options.add_argument("--only-downloads", metavar="PORT", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.only_downloads:
        print(*asyncio.run(downloads(int(given.only_downloads), given.downloads)))
        return
    pictures = photographs()
    found = rates(pictures, given.images, given.rounds)
    print(f"{len(pictures)} photographs of 12 Mpx to {SIDE} px, images per CPU-second")
    print(f"{'way':<34}{'rate':>8}{'ratio':>8}  goal")
    goals = {"pillow": ">= 0.90", "fast": ">= 1.35"}
    words = {
        "plain": "plain Pillow with draft",
        "tight": "the same with the exact final size",
        "pillow": "ours",
        "fast": "ours with the extra fast",
    }
    for name, rate in found.items():
        ratio = rate / found["plain"]
        print(f"{words[name]:<34}{rate:>8.1f}{ratio:>8.2f}  {goals.get(name, '')}")
    used, free = asyncio.run(use_of_cores(pictures, given.images * 4))
    print(
        f"{'cores in use, of those nobody used':<34}{used:>8.2f}{used / (used + free):>8.2f}  near 1"
    )
    if given.downloads:
        most, rate, size = served(given.downloads)
        print(f"{f'{given.downloads} downloads of {size / 1e6:.1f} MB, MB held':<34}{most:>8.0f}")
        print(f"{'  images a second':<34}{rate:>8.1f}{'':>8}  goal < 400 MB")


if __name__ == "__main__":
    main()
