"""The commands. Each loads the job and calls a story; exit codes are settled in `main`.

What does the work is imported after the job file was read: help waits for no library.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import __version__
from pipeline import arguments as arg
from pipeline.exit import Known, exit_of, flushed, hear_signals, leave, open_streams
from pipeline.memory import keep_little

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig

app = typer.Typer(
    name="caption-pipeline",
    help="Caption image datasets through a throttled vision API: unattended, resumable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

#: What the one command of this process has found out, for the way it ends.
_known = Known()


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
    """The job and its environment; what is learned on the way helps an error to say where."""
    from pipeline.captioning.output_location import placed
    from pipeline.config.job import environment, read_and_check
    from pipeline.trust_store import put_off

    put_off()
    _known.environ = environ = environment(os.environ, Path.cwd())
    loaded, document = read_and_check(job, sets or (), environ)
    _known.where = document.where
    _known.output = Path((loaded := placed(loaded, environ)).output.path)
    return loaded, environ


@app.command()
def run(
    job: arg.Job,
    limit: arg.Limit = None,
    retry_failed: arg.RetryFailed = False,
    retry: arg.Retry = None,
    redo: arg.Redo = None,
    retry_rejected: arg.RetryRejected = False,
    yes: Annotated[bool, typer.Option("--yes", help="Go on although every image is new.")] = False,
    take_over: arg.TakeOver = False,
    pilot: Annotated[
        int | None,
        typer.Option(metavar="N", help="Settle N images from all over the manifest; forecast."),
    ] = None,
    shard: arg.Shard = None,
    join: arg.Join = False,
    set_: arg.Sets = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress, no log lines on stderr.")
    ] = False,
    json: arg.Json = False,
) -> None:
    """Caption everything that is not settled yet; resumable."""
    from pipeline.captioning.options import RunOptions, read_codes

    flags = {"yes": yes, "take_over": take_over, "join": join, "quiet": quiet, "json": json}
    options = RunOptions(
        limit=limit,
        retry_failed=retry_failed,
        retry_rejected=retry_rejected,
        retry=read_codes(retry),
        redo=redo,
        pilot=pilot,
        shard=shard,
        **flags,
    )
    loaded, environ = _load(job, set_)
    from pipeline.commands.run import run_command

    raise typer.Exit(run_command(loaded, options, environ))


@app.command()
def status(
    job: arg.Job,
    failed: Annotated[
        bool, typer.Option("--failed", help="Name the images without a caption, and why.")
    ] = False,
    set_: arg.Sets = None,
    json: arg.Json = False,
) -> None:
    """Counts, rate, quota and last errors, while a run is going on and after it."""
    loaded, _ = _load(job, set_)
    from pipeline.commands.status import status_command

    raise typer.Exit(status_command(loaded, as_json=json, failed=failed))


@app.command()
def plan(job: arg.Job, set_: arg.Sets = None, json: arg.Json = False) -> None:
    """Rows, requests, tokens, money and nights, before anything is asked."""
    from pipeline.captioning.inputs import this_environment
    from pipeline.commands.plan import plan_command

    loaded, environ = _load(job, set_)
    raise typer.Exit(plan_command(loaded, environ, this_environment(environ), as_json=json))


@app.command()
def check(job: arg.Job, set_: arg.Sets = None, json: arg.Json = False) -> None:
    """Preflight: key, model, quota, manifest, output, disk; each line with its remedy."""
    from pipeline.captioning.inputs import this_environment
    from pipeline.commands.check import check_command

    loaded, environ = _load(job, set_)
    raise typer.Exit(check_command(loaded, environ, this_environment(environ), as_json=json))


@app.command()
def nightly(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB.yaml[:WEIGHT]…")],
    print_: Annotated[bool, typer.Option("--print", help="Print only, change nothing.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the timers away.")] = False,
    system: Annotated[
        bool, typer.Option("--system", help="For the machine, not the user.")
    ] = False,
    cron: Annotated[
        bool | None, typer.Option("--cron/--systemd", help="Default: systemd where it runs.")
    ] = None,
    per_day: Annotated[
        int | None, typer.Option(metavar="N", help="The account's requests a day, to be shared.")
    ] = None,
    env_file: Annotated[
        Path | None, typer.Option(help="File with the key; default: .env in this folder.")
    ] = None,
) -> None:
    """Start jobs each night when the quota is new: a systemd timer, or a crontab line."""
    from pipeline.captioning.inputs import this_environment
    from pipeline.commands.nightly import NightlyOptions, nightly_command, read_jobs

    options = NightlyOptions(
        only_print=print_,
        remove=remove,
        system=system,
        cron=cron,
        per_day=per_day,
        env_file=env_file,
    )
    wanted = read_jobs(jobs)
    loaded = [] if remove else [_load(entry.path, None)[0] for entry in wanted]
    raise typer.Exit(nightly_command(wanted, loaded, options, this_environment(_known.environ)))


@app.command()
def models(job: arg.Job, set_: arg.Sets = None, json: arg.Json = False) -> None:
    """Models that take images, with price, context and expiry, cheapest first."""
    from pipeline.captioning.inputs import this_environment
    from pipeline.commands.models import models_command

    loaded, environ = _load(job, set_)
    raise typer.Exit(models_command(loaded, environ, this_environment(environ), as_json=json))


@app.command()
def export(
    job: arg.Job,
    dest: Annotated[
        Path | None, typer.Argument(metavar="DEST", help="File or folder to write.")
    ] = None,
    format_: arg.Format = None,
    beside: Annotated[
        bool, typer.Option("--beside", help="Sidecars next to the pictures; no DEST.")
    ] = False,
    images: Annotated[
        bool, typer.Option("--images", help="Parquet: with the pictures, as {bytes, path}.")
    ] = False,
    keep_lines: Annotated[
        bool, typer.Option("--keep-lines", help="Sidecar, kohya: keep line breaks in captions.")
    ] = False,
    prefix: arg.Before = None,
    suffix: arg.After = None,
    recipe: arg.Recipe = None,
    prompt: arg.PromptName = None,
    shard_size: arg.ShardSize = None,
    shard_rows: Annotated[
        int | None, typer.Option(min=1, help="hf, webdataset: rows of a shard.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that this job did not write.")
    ] = False,
    reviewed_only: Annotated[
        bool, typer.Option("--reviewed-only", help="Only captions that were accepted or edited.")
    ] = False,
    raw_cells: Annotated[
        bool,
        typer.Option(
            "--raw-cells", help="CSV: no ' before cells that a spreadsheet runs as formulas."
        ),
    ] = False,
    set_: arg.Sets = None,
) -> None:
    """One row per manifest row, in manifest order, with its caption."""
    from pipeline.export.options import ExportOptions, ExportRequest, size_of

    flags = {"images": images, "overwrite": overwrite, "raw_cells": raw_cells}
    options = ExportOptions(
        **flags, keep_lines=keep_lines, shard_size=size_of(shard_size), shard_rows=shard_rows
    )
    texts = {"format": format_, "recipe": recipe, "prompt": prompt}
    texts |= {"prefix": prefix, "suffix": suffix}
    request = ExportRequest(
        dest=dest, beside=beside, reviewed_only=reviewed_only, options=options, **texts
    )
    loaded, _ = _load(job, set_)
    from pipeline.commands.export import export_command

    raise typer.Exit(export_command(loaded, request))


@app.command()
def report(
    job: arg.Job,
    dest: Annotated[
        Path | None, typer.Argument(metavar="[DEST]", help="Default: report.html in the output.")
    ] = None,
    set_: arg.Sets = None,
) -> None:
    """One self-contained HTML page: gallery, uptime, tokens, failures, runs."""
    loaded, environ = _load(job, set_)
    from pipeline.commands.report import report_command

    raise typer.Exit(report_command(loaded, dest, environ))


@app.command()
def watch(
    job: arg.Job, port: arg.Port = 0, host: arg.HostName = "127.0.0.1", set_: arg.Sets = None
) -> None:
    """The report on a loopback port while a run goes on; captions appear as they land."""
    loaded, environ = _load(job, set_)
    from pipeline.commands.watch import watch_command

    raise typer.Exit(watch_command(loaded, environ, host=host, port=port))


@app.command()
def review(
    job: arg.Job,
    as_: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Who decides; default: the user.")
    ] = None,
    import_: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Take over an edited dataset, do not serve."),
    ] = None,
    port: arg.Port = 0,
    host: arg.HostName = "127.0.0.1",
    set_: arg.Sets = None,
) -> None:
    """Accept, edit, reject or flag captions, in a browser on loopback."""
    loaded, _ = _load(job, set_)
    from pipeline.commands import review, review_import

    if import_ is not None:
        raise typer.Exit(review_import.import_command(loaded, import_, as_))
    raise typer.Exit(review.review_command(loaded, as_, host=host, port=port))


@app.command()
def push(
    job: arg.Job,
    name: Annotated[str, typer.Argument(metavar="USER/NAME", help="The dataset on the hub.")],
    public: Annotated[
        bool, typer.Option("--public", help="A new dataset may be seen by all; default: private.")
    ] = False,
    prefix: arg.Before = None,
    suffix: arg.After = None,
    shard_size: arg.ShardSize = None,
    set_: arg.Sets = None,
) -> None:
    """Upload the dataset with its pictures to the Hugging Face hub; resumable."""
    from pipeline.export.options import ExportOptions, ExportRequest, size_of

    options = ExportOptions(shard_size=size_of(shard_size))
    request = ExportRequest(dest=None, prefix=prefix, suffix=suffix, options=options)
    loaded, environ = _load(job, set_)
    from pipeline.commands.push import push_command

    raise typer.Exit(push_command(loaded, name, request, environ, public=public))


@app.command()
def verify(
    job: arg.Job,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what needs no guessing.")] = False,
    forget: Annotated[list[str] | None, typer.Option(help="Give up this part; ask anew.")] = None,
    set_: arg.Sets = None,
    json: arg.Json = False,
) -> None:
    """Check every promise on what is on disk."""
    loaded, _ = _load(job, set_)
    from pipeline.commands.verify import verify_command

    raise typer.Exit(verify_command(loaded, repair=repair, as_json=json, forget=forget or ()))


@app.command()
def adopt(
    job: arg.Job,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An output, or its parts.")],
    set_: arg.Sets = None,
) -> None:
    """Take over the captions of another output or of a lost state, by their keys."""
    from pipeline.captioning.inputs import this_environment

    loaded, environ = _load(job, set_)
    from pipeline.commands.adopt import adopt_command

    raise typer.Exit(adopt_command(loaded, folder, this_environment(environ)))


@app.command()
def init(
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="Where to write it.")] = Path(
        "job.yaml"
    ),
    profile: Annotated[str | None, typer.Option(help="The service; default: openrouter.")] = None,
    images: Annotated[
        str | None, typer.Option(metavar="PATH", help="Folder, file or URL of the images.")
    ] = None,
) -> None:
    """Write a commented job file with every key."""
    from pipeline.commands.init import init_command

    raise typer.Exit(init_command(dest, profile=profile, images=images))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the job file, for editors."""
    from pipeline.commands.init import schema_text

    typer.echo(schema_text())


@app.command()
def simulate(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Loopback port; 0: any.")] = 8765,
    profile: Annotated[str, typer.Option(help="Which service to be.")] = "openrouter-2026-free",
    seed: Annotated[int, typer.Option(help="Same seed, same answers.")] = 0,
    knob: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Turn a knob (faults, limits)."),
    ] = None,
    log: Annotated[Path | None, typer.Option(help="JSON lines of what was received.")] = None,
    knobs: Annotated[bool, typer.Option("--knobs", help="List the knobs and end.")] = False,
) -> None:
    """Simulate the API of a service, on a loopback port."""
    from pipeline.simulator.server import describe_knobs, run_simulator

    if knobs:
        typer.echo(describe_knobs(profile))
        raise typer.Exit
    raise typer.Exit(
        run_simulator(port=port, profile=profile, seed=seed, knobs=knob or [], log=log)
    )


def main() -> None:
    """Run a command and end the process with the documented exit code."""
    open_streams()
    hear_signals()
    keep_little()
    try:
        code = typer.main.get_command(app).main(standalone_mode=False)
    except BaseException as error:  # noqa: BLE001 - the border of the program
        code = exit_of(error, _known)
    leave(flushed(code if isinstance(code, int) else 0))
