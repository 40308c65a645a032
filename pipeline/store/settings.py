"""The job file's `output` and `run` sections."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import Duration, Settings, Size, section

#: `5%`, `0.5 %`, up to `100%`.
_PERCENT = r"^(100|\d{1,2}(\.\d+)?) ?%$"


class OutputSettings(Settings):
    path: str = ""
    """Folder or s3://, gs:// address that receives everything; default: out/NAME."""
    dataset: Literal["auto"] | None = "auto"
    """dataset.parquet at the end of a run; null: not."""
    prefix: str = ""
    """Put before the names of the caption columns: my_ gives my_caption."""

    @property
    def shown(self) -> str:
        """The output as the user names it."""
        return str(Path(self.path))


class Elsewhere(OutputSettings):
    """An output that holds no journal: `path` is the folder that stands for it on this machine.
    Never read from a job file."""

    address: str

    @property
    def shown(self) -> str:
        return self.address


class RaySettings(Settings):
    address: str = "local"
    """`local` starts Ray on this machine for the run; else the cluster's address, as 10.0.0.1:6379."""
    worker_cpus: float = Field(default=1.0, gt=0)
    """What a shard asks of a machine's CPUs."""


class RunSettings(Settings):
    max_failed: Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=_PERCENT)] = Field(
        default=0, examples=[0, 20, "5%"]
    )
    """So many images, or such a share of them, may lack a caption and the run still exits 0."""
    engine: Literal["local", "ray"] = "local"
    """Where the run happens: in this process, or in shards on Ray (docs/cluster.md)."""
    shards: int = Field(default=4, ge=1, le=100_000)
    """Shards of a run on Ray."""
    ray: RaySettings = section()
    """How Ray is reached."""
    drain: Duration = Field(default=60.0, ge=0)
    """Seconds that requests in flight get after a stop signal."""
    min_free: Size = Field(default=256_000_000, ge=0)
    """Free disk space below which nothing more is asked."""
    metrics: str | None = None
    """File that receives Prometheus metrics."""
    log_format: Literal["text", "json"] = "text"
    """How log lines are written, on stderr and in _state/logs."""

    def failures_allowed(self, images: int) -> int:
        """How many of so many images may lack a caption."""
        if isinstance(self.max_failed, int):
            return self.max_failed
        return int(Fraction(self.max_failed.rstrip("% ")) * images / 100)


class NotifySettings(Settings):
    url: str | None = None
    """Pinged at start, success and failure."""
