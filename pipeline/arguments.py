"""Arguments and options that several commands take, as types of Typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Job = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a key of the job file."),
]
Before = Annotated[str | None, typer.Option(help="Text before each caption.")]
After = Annotated[str | None, typer.Option(help="Text after each caption.")]
ShardSize = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="hf, webdataset: bytes of a shard, as 500MB or 1GB."),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="parquet, jsonl, csv, tsv, sidecar, kohya, imagefolder, webdataset, hf.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]

Port = Annotated[int, typer.Option(help="Port to listen on; 0: any free one.")]
HostName = Annotated[
    str, typer.Option("--host", help="Address to listen on; others than this machine see the page.")
]
