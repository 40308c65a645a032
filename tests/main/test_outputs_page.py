"""docs/outputs.md names the columns that the parts have."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from pipeline.schema import RECORDS, REQUESTS, REVIEWS
from tests.support.command import ROOT


@pytest.mark.parametrize(
    ("heading", "schema"),
    [("`captions/`, `failures/`", RECORDS), ("`requests/`", REQUESTS), ("`reviews/`", REVIEWS)],
)
def test_the_tables_name_every_column(heading: str, schema: pa.Schema) -> None:
    """None undocumented, none only documented."""
    page = (ROOT / "docs/outputs.md").read_text()
    table = page.partition(f"| {heading} | |\n| --- | --- |\n")[2].partition("\n\n")[0]
    first = [line.split("|")[1] for line in table.splitlines()]
    assert sorted(re.findall(r"`(\w+)`", "".join(first))) == sorted(schema.names)
