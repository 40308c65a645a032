"""What a file is: by its first bytes where they are sure, else by its ending.

A folder is a folder of images unless it holds `metadata.csv`, `.jsonl` or `.parquet` (the form
of Hugging Face's imagefolder), or no image at its top and data files of one format there, or no
image anywhere and data files further down; then those are the manifest.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ManifestError
from pipeline.manifest import places
from pipeline.manifest.file_names import is_image, left_out
from pipeline.manifest.places import ManifestFile
from pipeline.manifest.readers.folder import pictures
from pipeline.patterns import lazy

_ENDINGS = {
    "parquet": "parquet", "pq": "parquet", "csv": "csv", "tsv": "tsv", "tab": "tsv",
    "jsonl": "jsonl", "ndjson": "jsonl", "json": "json", "txt": "txt", "lst": "txt",
    "tar": "webdataset", "tgz": "webdataset",
}  # fmt: skip
#: What files of other formats begin with, and what to do about them.
_OTHERS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file that it stands for; run git lfs pull",
    b"<!doctype html": "an HTML page, not a table: was it a login, or a page about the file?",
    b"<html": "an HTML page, not a table: was it a login, or a page about the file?",
    b"<?xml": "an XML file; write the pictures' paths into a CSV or a list, or name their folder",
    b"\xff\xff\xff\xff": "an Arrow stream; write it as Parquet: pyarrow.ipc.open_stream(…).read_all(), "
    "pyarrow.parquet.write_table(…)",
    b"ARROW1\0": "an Arrow or Feather file; write it as Parquet: "
    "pyarrow.feather.read_table(…), pyarrow.parquet.write_table(…)",
    b"SQLite format 3\0": "a SQLite database; write the table as Parquet or CSV",
    b"PK\3\4": "a zip archive or a spreadsheet; unpack the archive, save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "a spreadsheet or document of Office; save the sheet as CSV",
    **dict.fromkeys((b"Rar!\x1a", b"7z\xbc\xaf"), "an archive; unpack it"),
    **dict.fromkeys(
        (b"\x04\x22\x4d\x18", b"\x1f\x9d"), "compressed; unpack it, or use gzip, bz2, xz or zstd"
    ),
    **dict.fromkeys(
        (b"\x93NUMPY", b"\x89HDF", b"Obj\1", b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"),
        "of a format that is not read (NumPy, HDF5, Avro, pickle); write it as Parquet or CSV",
    ),
    b"%PDF-": "a PDF; write the pictures into files and name their folder",
}
#: Endings of tables that were cut into numbered files (`photos.tsv000`).
_NUMBERED = lazy(r"(csv|tsv|jsonl)\d{1,5}")
_SQUEEZED = {"gz", "gzip", "zst", "bz2", "xz"}


def settle(files_below: Sequence[ManifestFile], format: str) -> tuple[list[ManifestFile], str]:  # noqa: A002 - the job file's word
    """The files to read and their one format."""
    if format == "folder":
        return list(files_below), format
    files = [
        file
        for place in files_below
        for file in (_inside(place, format) if place.folder and not place.pattern else [place])
    ]
    if format != "auto":
        return files, format
    kinds = {file.name: "folder" if file.folder else _kind(file) for file in files}
    first = kinds[files[0].name]
    other = next((name for name, kind in kinds.items() if kind != first), None)
    if other is not None:
        raise ManifestError(
            f"manifest {files[0].shown} is {first}, but {places.shown(other)} is {kinds[other]}; "
            "one manifest is of one format: " + _remedy(files_below, files, kinds)
        )
    return files, first


def _inside(folder: ManifestFile, format: str) -> list[ManifestFile]:  # noqa: A002 - the job file's word
    """The data files of a folder, or the folder itself when it is one of images."""
    files = places.children(folder)
    names = {_last(f) for f in files}
    if {"dataset_info.json", "state.json"} <= names or "dataset_dict.json" in names:
        raise ManifestError(
            f"manifest {folder.shown}: written by save_to_disk of datasets; write it as Parquet: "
            "datasets.load_from_disk(…).to_parquet(…), each split by itself"
        )
    if format == "auto":
        files = _data(folder, files)
    metadata = [f for f in files if _last(f).lower().startswith("metadata.") and _ending(f)]
    if metadata:
        return metadata
    if format == "auto" and any(is_image(_last(f)) for f in files):
        of_hub = [] if folder.path is None else _of_hub(folder.path)
        return [places.local_place(path) for path in of_hub] or [folder]
    wanted = [f for f in files if (_ending(f) if format == "auto" else _ending(f) == format)]
    if tables := [f for f in wanted if _ending(f) != "txt"]:
        return tables
    if format == "auto" and folder.path is not None and (below := _below(folder, wanted)):
        return below
    if wanted:
        return wanted
    if format == "auto":
        return [folder]  # images may be further down; if not, the folder reader says so
    raise ManifestError(f"manifest {folder.shown}: no {format} file in this folder")


def _data(folder: ManifestFile, files: list[ManifestFile]) -> list[ManifestFile]:
    """Without what img2dataset leaves beside its shards or folders of pictures: statistics, and a
    table of the same rows."""
    stems = {_last(f).partition(".")[0] for f in files if _ending(f) == "webdataset"}
    if folder.path is not None:
        counted = {_last(f).removesuffix("_stats.json") for f in files}
        stems |= {path.name for path in folder.path.iterdir() if path.name in counted}
    files = [f for f in files if not _last(f).endswith("_stats.json")]
    return [f for f in files if not (_ending(f) == "parquet" and _last(f)[:-8] in stems)]


def _below(folder: ManifestFile, lists: list[ManifestFile]) -> list[ManifestFile]:
    """The manifest of a local folder that has neither pictures nor tables at its top."""
    assert folder.path is not None
    tables = _tables(folder.path)
    if metadata := [path for path in tables if path.name.lower().startswith("metadata.")]:
        return [places.local_place(path) for path in metadata]
    if hub := _of_hub(folder.path):
        return [places.local_place(path) for path in hub]
    if any(True for _ in pictures(folder)):
        return [folder]
    return [] if lists and not tables else [places.local_place(path) for path in tables]


def _tables(folder: Path) -> list[Path]:
    """The tables in a folder and below."""
    return sorted(
        path
        for inner, _, names in os.walk(folder)  # a Path of each picture takes ten times as long
        for name in names
        if name.lower().endswith((".parquet", ".tar", ".jsonl", ".csv", ".tsv"))
        and not left_out((path := Path(inner, name)).relative_to(folder).as_posix())
        and path.is_file()
    )


def _of_hub(folder: Path) -> list[Path]:
    """The tables of a repository cloned from the Hugging Face hub, whatever pictures (a logo) stand
    elsewhere in it; none where this is no such repository: neither `.gitattributes` nor a card with
    a head."""
    if not (folder / ".gitattributes").exists():
        try:
            if not (folder / "README.md").read_bytes().startswith(b"---"):
                return []
        except OSError:
            return []
    tables = [path for path in _tables(folder) if path.suffix in (".parquet", ".tar")]
    folders = {path.parent for path in tables}
    pictured = any(is_image(path.name) for inner in folders for path in inner.iterdir())
    return [] if pictured else tables


def _remedy(
    files_below: Sequence[ManifestFile], files: Sequence[ManifestFile], kinds: dict[str, str]
) -> str:
    """How to choose one of several formats."""
    if len(files_below) == 1 and files_below[0].folder:
        return f"set manifest.format to one of {', '.join(dict.fromkeys(kinds.values()))}"
    suffix = _last(files[0]).rpartition(".")[2]
    return f"name the files of one alone in manifest.path, as *.{suffix}"


def _kind(place: ManifestFile) -> str:
    if is_image(_last(place)):
        return "folder"
    with place.open() as raw:
        head = raw.read(512)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head[257:262] == b"ustar":
        return "webdataset"
    plain = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").lower()
    for magic, remedy in _OTHERS.items():
        if head.startswith(magic) or plain.startswith(magic):
            raise ManifestError(f"manifest {place.shown}: {remedy}")
    ending = _ending(place)
    if ending:
        return ending
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if text in (b"{", b"["):
        return "jsonl"
    raise ManifestError(
        f"manifest {place.shown}: cannot tell its format; set manifest.format "
        "(parquet csv tsv jsonl json txt folder webdataset)"
    )


def _last(place: ManifestFile) -> str:
    return places.shown(place.name).rstrip("/").rpartition("/")[2]


def _ending(place: ManifestFile) -> str | None:
    """The format that the name's ending stands for, compression left aside."""
    parts = _last(place).lower().split(".")
    if len(parts) > 2 and parts[-1] in _SQUEEZED:
        parts.pop()
    if (numbered := _NUMBERED.fullmatch(parts[-1])) is not None:
        parts[-1] = numbered[1]
    return _ENDINGS.get(parts[-1]) if len(parts) > 1 else None
