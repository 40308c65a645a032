"""Caption image datasets through a throttled vision API; see `pipeline/captioning/run.py` for the page that tells the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api import JobRun, Progress, plan_job, run_job

__version__ = "0.1.0"
__all__ = ["JobRun", "Progress", "__version__", "plan_job", "run_job"]


def __getattr__(name: str) -> Any:
    """The functions of `pipeline.api`, imported when they are asked for: commands need none."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline import api

    return getattr(api, name)
