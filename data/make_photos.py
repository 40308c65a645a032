"""Write photos.csv and photos.parquet: the pictures in scikit-image's wheel with a clear licence.

Run `python data/make_photos.py` after a change here. Every licence is quoted from the docstring
of the picture's function in `skimage.data`; pictures whose docstring states none (moon, page,
logo, phantom, color wheel), the motorcycles and the toy-sized test files are left out.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

CC0, PUBLIC = "CC0-1.0", "public domain"
NO_KNOWN = "no known copyright restrictions"

#: file, title, credit, licence
PHOTOS = [
    ("astronaut.png", "Eileen Collins, astronaut", "NASA", PUBLIC),
    ("brick.png", "Brick wall", "CC0Textures, Bricks25", CC0),
    ("camera.png", "Person with a camera on a tripod", "Lav Varshney", CC0),
    ("cell.png", "Cell floating in saline", "Paul Müller and others", CC0),
    ("chelsea.png", "Chelsea the cat", "Stéfan van der Walt", CC0),
    ("clock_motion.png", "Wall clock, motion blurred", "Stéfan van der Walt", PUBLIC),
    ("coffee.png", "Coffee cup", "Rachel Michetti, Pikolo Espresso Bar", CC0),
    ("coins.png", "Greek coins from Pompeii", "Brooklyn Museum", NO_KNOWN),
    ("grass.png", "Grass", "DeviantArt, linolafett", CC0),
    ("gravel.png", "Gravel", "CC0Textures, Gravel04", CC0),
    ("horse.png", "Silhouette of a horse", "Andreas Preuss (marauder), openclipart", CC0),
    ("hubble_deep_field.jpg", "Hubble eXtreme Deep Field", "NASA, HubbleSite", PUBLIC),
    ("ihc.png", "Colonic glands, stained", "Center for Microscopy And Molecular Imaging", NO_KNOWN),
    ("microaneurysms.png", "Detail of a retina", "Andreas Maier, HRF Image Database", CC0),
    ("retina.jpg", "Human retina", "Mikael Häggström", CC0),
    ("rocket.jpg", "Launch of a Falcon 9 with DSCOVR", "SpaceX", PUBLIC),
    ("text.png", "Printed text", "Wikipedia, Corner.png", PUBLIC),
]


def table() -> pa.Table:
    """The manifest."""
    rows = [
        {
            "id": file.partition(".")[0],
            "url": f"package://skimage/data/{file}",
            "title": title,
            "credit": credit,
            "licence": licence,
        }
        for file, title, credit, licence in PHOTOS
    ]
    return pa.Table.from_pylist(rows)


def main() -> None:
    """Write both files beside this script."""
    here = Path(__file__).parent
    photos = table()
    with (here / "photos.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, photos.schema.names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(photos.to_pylist())
    pq.write_table(photos, here / "photos.parquet", compression="zstd")


if __name__ == "__main__":
    main()
