"""The commands. Each loads the job and calls a story; exit codes are settled in `main`."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from pipeline import __version__
from pipeline.errors import Exit, PipelineError

if TYPE_CHECKING:
    from pipeline.config import JobConfig

app = typer.Typer(
    name="caption-pipeline",
    help="Caption image datasets through a throttled vision API: unattended, resumable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Job = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="The job file.")]
Sets = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads annotations at run time
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a key of the job file."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"caption-pipeline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _load(job: Path, sets: list[str] | None) -> tuple[JobConfig, dict[str, str]]:
    from pipeline.config import environment, load_job

    environ = environment(os.environ, Path.cwd())
    return load_job(job, sets or (), environ), environ


@app.command()
def run(
    job: Job,
    limit: Annotated[Optional[int], typer.Option(help="Settle at most N more images.")] = None,  # noqa: UP045
    retry_failed: Annotated[bool, typer.Option(help="Ask all failed images again.")] = False,
    retry: Annotated[str, typer.Option(metavar="CODE,…", help="Ask these failures again.")] = "",
    redo: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="SQL", help="Ask again the records that a predicate chooses."),
    ] = None,
    yes: Annotated[bool, typer.Option(help="Go on although every image is new.")] = False,
    set_: Sets = None,
    quiet: Annotated[bool, typer.Option(help="No progress, no log lines on stderr.")] = False,
    json: Json = False,
) -> None:
    """Caption everything that is not settled yet; resumable."""
    from pipeline.stories.command import run_command
    from pipeline.stories.options import RunOptions

    codes = tuple(code.strip() for code in retry.split(",") if code.strip())
    options = RunOptions(
        limit=limit,
        retry_failed=retry_failed,
        retry=codes,
        redo=redo,
        yes=yes,
        quiet=quiet,
        json=json,
    )
    loaded, environ = _load(job, set_)
    raise typer.Exit(run_command(loaded, options, environ))


@app.command()
def status(job: Job, set_: Sets = None, json: Json = False) -> None:
    """Counts, rate, quota and last errors, while a run is going on and after it."""
    from pipeline.stories.status import status_command

    raise typer.Exit(status_command(_load(job, set_)[0], as_json=json))


@app.command()
def plan(job: Job, set_: Sets = None, json: Json = False) -> None:
    """Rows, requests, tokens, money and nights, before anything is asked."""
    from pipeline.stories.forecast import plan_command
    from pipeline.stories.start import this_world

    loaded, environ = _load(job, set_)
    raise typer.Exit(plan_command(loaded, environ, this_world(environ), as_json=json))


@app.command()
def check(job: Job, set_: Sets = None, json: Json = False) -> None:
    """Preflight: key, model, quota, manifest, output, disk; each line with its remedy."""
    from pipeline.stories.preflight import check_command
    from pipeline.stories.start import this_world

    loaded, environ = _load(job, set_)
    raise typer.Exit(check_command(loaded, environ, this_world(environ), as_json=json))


@app.command()
def models(job: Job, set_: Sets = None, json: Json = False) -> None:
    """Models that take images, with price, context and expiry, cheapest first."""
    from pipeline.stories.models import models_command
    from pipeline.stories.start import this_world

    loaded, environ = _load(job, set_)
    raise typer.Exit(models_command(loaded, environ, this_world(environ), as_json=json))


@app.command()
def export(
    job: Job,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="File or folder to write.")],
    format_: Annotated[str | None, typer.Option("--format", help="parquet, jsonl, csv, …")] = None,
    raw_cells: Annotated[
        bool, typer.Option(help="CSV: leave cells that look like formulas as they are.")
    ] = False,
    set_: Sets = None,
) -> None:
    """One row per manifest row, in manifest order, with its caption."""
    from pipeline.stories.export import export_command

    loaded, _ = _load(job, set_)
    raise typer.Exit(export_command(loaded, dest, format_, formulas=raw_cells))


@app.command()
def verify(
    job: Job,
    repair: Annotated[bool, typer.Option(help="Mend what needs no guessing.")] = False,
    set_: Sets = None,
    json: Json = False,
) -> None:
    """Check every promise on what is on disk."""
    from pipeline.stories.verify import verify_command

    raise typer.Exit(verify_command(_load(job, set_)[0], repair=repair, as_json=json))


@app.command()
def init(
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="Where to write it.")] = Path(
        "job.yaml"
    ),
) -> None:
    """Write a commented job file with every key."""
    from pipeline.stories.template import init_command

    raise typer.Exit(init_command(dest))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the job file, for editors."""
    from pipeline.stories.template import schema_text

    typer.echo(schema_text())


@app.command()
def simulate(
    port: Annotated[int, typer.Option(help="Loopback port; 0: any.")] = 8765,
    profile: Annotated[str, typer.Option(help="Which service to be.")] = "openrouter-2026-free",
    seed: Annotated[int, typer.Option(help="Same seed, same answers.")] = 0,
    knob: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME=VALUE", help="Turn a knob (faults, limits)."),
    ] = None,
    log: Annotated[Optional[Path], typer.Option(help="JSON lines of what was received.")] = None,  # noqa: UP045
) -> None:
    """Be the API, on a loopback port."""
    from pipeline.sim.server import run_simulator

    raise typer.Exit(
        run_simulator(port=port, profile=profile, seed=seed, knobs=knob or [], log=log)
    )


def main() -> None:
    """Run a command and end the process with the documented exit code."""
    command = typer.main.get_command(app)
    try:
        code = command.main(standalone_mode=False)
        sys.stdout.flush()
    except PipelineError as error:
        code = _say(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = int(Exit.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except Exception as error:  # noqa: BLE001 - the border of the program
        code = _usage(error) or _bug()
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Exception) -> int | None:
    """Errors of the command line, told by typer's parser."""
    if not hasattr(error, "format_message"):
        return None
    context = getattr(error, "ctx", None)
    hint = f" ({context.command_path} --help)" if context is not None else ""
    return _say(error.format_message() + hint, Exit.USAGE)


def _say(words: str, code: int) -> int:
    print(f"caption-pipeline: {' '.join(words.split())}", file=sys.stderr)  # noqa: T201
    return int(code)


def _bug() -> int:
    """A traceback to the log, one line to the terminal."""
    import tempfile

    logging.getLogger("pipeline").exception("bug")
    fd, name = tempfile.mkstemp(prefix="caption-pipeline-", suffix=".log")
    with os.fdopen(fd, "w") as file:
        traceback.print_exc(file=file)
    return _say(f"this is a bug; the traceback is in {name}", Exit.BUG)
