"""Arguments and options of the commands, as types of Typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Job = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")]
Limit = Annotated[int | None, typer.Option(help="Settle at most N more images.")]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Ask all failed images again.")]
Retry = Annotated[str | None, typer.Option(metavar="CODE,…", help="Ask only these failures again.")]
Redo = Annotated[
    str | None, typer.Option(metavar="SQL", help="Ask again the records that a predicate chooses.")
]
RetryRejected = Annotated[
    bool, typer.Option("--retry-rejected", help="Ask again what a review has rejected.")
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Shard I (from 0) of N, beside others; auto: as Slurm or Kubernetes says.",
    ),
]
Join = Annotated[
    bool, typer.Option("--join", help="Put the shards' captions together; ask nothing.")
]
TakeOver = Annotated[
    bool, typer.Option("--take-over", help="Go on although another host owns the output.")
]
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
Recipe = Annotated[
    str | None, typer.Option(help="Captions of another recipe that the output holds.")
]
PromptName = Annotated[
    str | None, typer.Option(help="Of several prompts the one of this name alone.")
]
