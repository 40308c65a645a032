"""Arguments and options of the commands, as types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pipeline.command_line import Argument, Option

Job = Annotated[Path, Argument(metavar="JOB.yaml", help="The job file.")]
Limit = Annotated[int | None, Option(help="Settle at most N more images.")]
RetryFailed = Annotated[bool, Option("--retry-failed", help="Ask all failed images again.")]
Retry = Annotated[str | None, Option(metavar="CODE,…", help="Ask only these failures again.")]
Redo = Annotated[
    str | None, Option(metavar="SQL", help="Ask again the records that a predicate chooses.")
]
RetryRejected = Annotated[
    bool, Option("--retry-rejected", help="Ask again what a review has rejected.")
]
Shard = Annotated[
    str | None,
    Option(
        metavar="I/N",
        help="Shard I (from 0) of N, beside others; auto: as Slurm or Kubernetes says.",
    ),
]
Join = Annotated[bool, Option("--join", help="Put the shards' captions together; ask nothing.")]
TakeOver = Annotated[
    bool, Option("--take-over", help="Go on although another host owns the output.")
]
Sets = Annotated[
    list[str] | None,
    Option("--set", metavar="KEY.PATH=VALUE", help="Override a key of the job file."),
]
Before = Annotated[str | None, Option(help="Text before each caption.")]
After = Annotated[str | None, Option(help="Text after each caption.")]
ShardSize = Annotated[
    str | None,
    Option(metavar="SIZE", help="hf, webdataset: bytes of a shard, as 500MB or 1GB."),
]
Format = Annotated[
    str | None,
    Option(
        "--format",
        help="parquet, jsonl, csv, tsv, sidecar, kohya, imagefolder, webdataset, hf.",
    ),
]
Json = Annotated[bool, Option("--json", help="One JSON object on stdout, nothing else.")]

Port = Annotated[int, Option(help="Port to listen on; 0: any free one.")]
HostName = Annotated[
    str, Option("--host", help="Address to listen on; others than this machine see the page.")
]
Recipe = Annotated[str | None, Option(help="Captions of another recipe that the output holds.")]
PromptName = Annotated[str | None, Option(help="Of several prompts the one of this name alone.")]
