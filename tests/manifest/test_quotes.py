"""Quotes in CSV and TSV: no row is swallowed in silence, and honest quoting is read as it is."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from pipeline.errors import ManifestError
from pipeline.manifest.readers.quotes import _Pattern
from tests.manifest.made import opened, rows_of

#: Name -> (file name, content, the title of each row).
READ: dict[str, tuple[str, str, list[str]]] = {
    "stray, title first": (
        "a.tsv", 'title\timage\n"Big sale\t0.jpg\na 5"\t1.jpg\n"Hi" she said\t2.jpg\nlast\t3.jpg\n',
        ['"Big sale', 'a 5"', '"Hi" she said', "last"],
    ),
    "stray, title last": (
        "a.tsv", 'image\ttitle\n0.jpg\t"Big sale\n1.jpg\tx\n2.jpg\ta plate of 5"\n3.jpg\tz\n',
        ['"Big sale', "x", 'a plate of 5"', "z"],
    ),
    "stray in a CSV": ("a.csv", 'image,title\n0.jpg,"Big sale\n1.jpg,x\n', ['"Big sale', "x"]),
    "two strays that close each other": (
        "a.csv", 'title;image\n"Big sale;0.jpg\nx;1.jpg\na plate of 5";2.jpg\n',
        ['"Big sale', "x", 'a plate of 5"'],
    ),
    "unclosed at the end": ("a.csv", 'image,title\n0.jpg,x\n1.jpg,"open', ["x", '"open']),
    "a whole cell in quotes beside a stray": (
        "a.tsv", 'title\timage\n"Hello"\t0.jpg\n"Big sale\t1.jpg\n', ['"Hello"', '"Big sale'],
    ),
    "stray in the header": ("a.tsv", 'image\t"title\n0.jpg\tx\n', ["x"]),
    "quoted TSV": ("a.tsv", 'title\timage\n"a\tb"\t0.jpg\n"5"" plate"\t1.jpg\n', ["a\tb", '5" plate']),
    "quotes in the middle": ("a.csv", 'image,title\n0.jpg,a 5" plate\n1.jpg,"x, y"\n', ['a 5" plate', "x, y"]),
    "backslashes": (
        "a.csv", 'image,title\n0.jpg,"say \\"hi\\", now"\n1.jpg,"x, y"\n', ['say "hi", now', "x, y"],
    ),
    "single quotes": ("a.csv", "image,title\n0.jpg,'tis\n1.jpg,'x'\n", ["'tis", "'x'"]),
    "lines": (
        "a.csv", 'image,title\n0.jpg,"A cat\nA dog, running"\n1.jpg,"a\n\nb"\n',
        ["A cat\nA dog, running", "a\n\nb"],
    ),
    "lines of Windows": ("a.csv", 'image,title\r\n0.jpg,"a, b\r\nc"\r\n1.jpg,x\r\n', ["a, b\r\nc", "x"]),
    "empty cells": ("a.csv", '"image","title"\n"0.jpg",""\n"1.jpg",""""\n', ["", '"']),
}  # fmt: skip


@pytest.mark.parametrize("what", READ)
def test_quotes_are_read_as_the_file_has_them(what: str, tmp_path: Path) -> None:
    """Every row with its picture and its title, letter by letter."""
    name, content, titles = READ[what]
    (tmp_path / name).write_text(content, newline="")
    named = "title" if '"title\n' not in content or '"image"' in content else '"title'

    rows = rows_of(opened(tmp_path / name, columns=(named,)))

    assert [row.image for row in rows] == [f"{i}.jpg" for i in range(len(titles))]
    assert [row.columns[named] for row in rows] == titles


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('image,title\n0.jpg,"a, b"\n1.jpg,"Big sale\n2.jpg,x\n', 3),
        ('"image","title"\n"0.jpg","a "big" sale"\n', 2),
        ('image,title\n0.jpg,"5"" plate"\n1.jpg,x\n2.jpg,"open\n', 4),
        ('image,title\n0.jpg,"a, b"\n1.jpg,"Big\n2.jpg,x\n3.jpg,a 5"\n4.jpg,y\n', 3),
    ],
)
def test_a_stray_quote_among_quoted_cells_is_named(content: str, line: int, tmp_path: Path) -> None:
    """What was meant cannot be known: 65 before the first row, and the advice works."""
    path = tmp_path / "a.csv"
    path.write_text(content)

    with pytest.raises(ManifestError, match=rf"line {line}: a cell begins with a quote"):
        opened(path)

    path.write_text('image,title\n0.jpg,"a ""big"" sale, b"\n')
    assert len(rows_of(opened(path))) == 1


def test_quotes_far_into_a_long_file(tmp_path: Path) -> None:
    """Quoted cells with lines across every piece of a file, and a stray one at its very end."""
    titles = [f'row {i}, "quoted"\nand a line\n' * (1 + i % 40) for i in range(5_000)]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("image", "title"), *((f"{i}.jpg", t) for i, t in enumerate(titles))])

    rows = rows_of(opened(tmp_path / "a.csv", columns=("title",)))
    assert [row.columns["title"] for row in rows] == titles

    whole = (tmp_path / "a.csv").read_bytes()
    (tmp_path / "b.csv").write_bytes(whole + b'x.jpg,"stray\ny.jpg,z\n')
    with pytest.raises(ManifestError, match=rf"line {whole.count(10) + 1}: a cell begins"):
        opened(tmp_path / "b.csv")


def test_quotes_in_every_cell(tmp_path: Path) -> None:
    """Over every piece of a file, with a cell of several lines now and then; a stray one is named."""
    titles = [
        f"row {i}" + "\nand a line" * (i % 700 == 3) + '"' * (i % 50 == 1) for i in range(9_000)
    ]
    rows = [("image", "title"), *((f"{i}.jpg", title * 9) for i, title in enumerate(titles))]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)

    read = rows_of(opened(tmp_path / "a.csv", columns=("title",)))
    assert [row.columns["title"] for row in read] == [title * 9 for title in titles]

    whole = (tmp_path / "a.csv").read_bytes()
    for stray in (b'"x.jpg","a "cat""\n', b'"x.jpg","open\n"y.jpg","z"\n'):
        (tmp_path / "b.csv").write_bytes(whole + stray)
        with pytest.raises(ManifestError, match=rf"line {whole.count(10) + 1}: a cell begins"):
            opened(tmp_path / "b.csv")


def test_a_quick_look_at_quotes_says_no_more_than_a_long_one() -> None:
    """What `plain_lines` takes for plain is honest by the expressions."""
    pattern, rng, plain = _Pattern(",", backslash=False), random.Random(21), 0
    honest = pattern.honest()
    for _ in range(20_000):
        lines = "".join(rng.choices('"",\n\rab', k=rng.randrange(1, 12))).encode() + b"\n"
        if pattern.plain_lines(lines):
            plain += 1
            match = honest.match(lines)
            assert match is not None
            assert match.end() == len(lines), lines
    assert plain > 1_000


def test_a_stray_quote_in_front_of_300000_rows(tmp_path: Path) -> None:
    """None of them is swallowed."""
    (tmp_path / "a.csv").write_text('url,n\na.jpg,"1\n' + "b.jpg,2\n" * 300_000)

    assert sum(map(len, opened(tmp_path / "a.csv").batches())) == 300_001


@pytest.mark.parametrize(
    "start", ["", "\n\n", "sep=;\n", "sep=;\r\n", '"sep=;"\n', "\ufeffsep=;\n"]
)
def test_what_stands_before_the_header(start: str, tmp_path: Path) -> None:
    """A spreadsheet's `sep=` line, blank lines, a byte order mark: no row is made of them."""
    (tmp_path / "a.csv").write_text(f"{start}image;t\n0.jpg;a,b\n1.jpg;x\n", newline="")

    manifest = opened(tmp_path / "a.csv", columns=("t",))

    assert manifest.names == ("image", "t")
    assert [(row.image, row.columns["t"]) for row in rows_of(manifest)] == [
        ("0.jpg", "a,b"), ("1.jpg", "x"),
    ]  # fmt: skip
