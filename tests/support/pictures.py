"""Small pictures, each different, made from a number."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

from PIL import Image


def picture(number: int, size: int = 32, form: str = "JPEG") -> bytes:
    """A picture of a few coloured boxes; the same number gives the same bytes."""
    rng = random.Random(number)
    image = Image.new("RGB", (size, size), tuple(rng.randrange(256) for _ in range(3)))
    for _ in range(4):
        box = (
            sorted(rng.randrange(size) for _ in range(2)),
            sorted(rng.randrange(size) for _ in range(2)),
        )
        colour = tuple(rng.randrange(256) for _ in range(3))
        image.paste(colour, (box[0][0], box[1][0], box[0][1] + 1, box[1][1] + 1))
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


def folder_of(folder: Path, count: int, size: int = 32) -> Path:
    """`count` picture files and a CSV manifest that names them; gives the manifest."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(count):
        name = f"images/{number:05d}.jpg"
        (folder / name).write_bytes(picture(number, size))
        rows.append({"id": f"row-{number}", "path": name})
    return manifest(folder / "images.csv", rows)


def manifest(path: Path, rows: list[dict[str, str]]) -> Path:
    """A CSV manifest."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
