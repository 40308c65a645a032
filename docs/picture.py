"""Make `docs/report.png`, the picture of a report in the README.

    python docs/picture.py

Captions the photographs of `configs/job.yaml` in a folder of its own, makes their report, and
takes a picture of it in headless Chromium, in as few colours as keep it below 200 kB.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 200_000
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


def report(folder: Path) -> Path:
    """The report of the photographs."""
    page = folder / "report.html"
    state = {**os.environ, "CAPTION_PIPELINE_STATE": str(folder / "state")}
    job = ["configs/job.yaml", "--set", f"output.path={folder / 'out'}"]
    for command in (["run", *job, "--quiet"], ["report", job[0], str(page), *job[1:]]):
        words = [sys.executable, "-m", "pipeline", *command]
        subprocess.run(words, cwd=ROOT, env=state, check=True)  # noqa: S603 - our own command
    return page


def picture(page: Path) -> bytes:
    """The first screenful, as PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        tab = browser.new_page(viewport={"width": 1120, "height": 1230})
        tab.goto(page.as_uri())
        tab.wait_for_function("[...document.images].every(one => one.complete)")
        shot = tab.screenshot()
        browser.close()
    return shot


def small(png: bytes) -> bytes:
    """The same in fewer colours, until it is small enough."""
    with Image.open(io.BytesIO(png)) as shot:
        plain = shot.convert("RGB")
    for width, colours in ((1120, 256), (1120, 128), (960, 128), (840, 64), (720, 64), (640, 32)):
        size = width, plain.height * width // plain.width
        into = io.BytesIO()
        fewer = plain.resize(size, Image.Resampling.LANCZOS).quantize(colours, dither=0)
        fewer.save(into, "PNG", optimize=True)
        if len(into.getvalue()) <= LIMIT:
            return into.getvalue()
    raise SystemExit(f"not to be had below {LIMIT} bytes")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        png = small(picture(report(Path(folder))))
    (ROOT / "docs" / "report.png").write_bytes(png)


if __name__ == "__main__":
    main()
