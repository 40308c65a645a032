"""The commands. Each loads the job and calls a story; exit codes are settled in `main`.

What does the work is imported after the job file was read: help waits for no library.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pipeline import arguments as arg
from pipeline.command_line import Argument, Command, Option, answer
from pipeline.exit import Known, exit_of, flushed, hear_signals, leave, open_streams
from pipeline.memory import keep_little

if TYPE_CHECKING:
    from pipeline.config.job import JobConfig

#: Name -> command.
COMMANDS: dict[str, Command] = {}

#: What the one command of this process has found out, for the way it ends.
_known = Known()


def command(function: Command) -> Command:
    """A function as the command of its name."""
    COMMANDS[function.__name__] = function
    return function


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


@command
def run(
    job: arg.Job,
    limit: arg.Limit = None,
    retry_failed: arg.RetryFailed = False,
    retry: arg.Retry = None,
    redo: arg.Redo = None,
    retry_rejected: arg.RetryRejected = False,
    yes: Annotated[bool, Option("--yes", help="Go on although every image is new.")] = False,
    take_over: arg.TakeOver = False,
    pilot: Annotated[
        int | None,
        Option(metavar="N", help="Settle N images from all over the manifest; forecast."),
    ] = None,
    shard: arg.Shard = None,
    join: arg.Join = False,
    set_: arg.Sets = None,
    quiet: Annotated[bool, Option("--quiet", help="No progress, no log lines on stderr.")] = False,
    json: arg.Json = False,
) -> int:
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
    from pipeline.commands.engine import run_with_engine

    return run_with_engine(loaded, options, environ)


@command
def status(
    job: arg.Job,
    failed: Annotated[
        bool, Option("--failed", help="Name the images without a caption, and why.")
    ] = False,
    set_: arg.Sets = None,
    json: arg.Json = False,
) -> int:
    """Counts, rate, quota and last errors, while a run is going on and after it."""
    loaded, _ = _load(job, set_)
    from pipeline.commands.status import status_command

    return status_command(loaded, as_json=json, failed=failed)


@command
def plan(job: arg.Job, set_: arg.Sets = None, json: arg.Json = False) -> int:
    """Rows, requests, tokens, money and nights, before anything is asked."""
    from pipeline.captioning.inputs import this_environment
    from pipeline.commands.plan import plan_command

    loaded, environ = _load(job, set_)
    return plan_command(loaded, environ, this_environment(environ), as_json=json)


@command
def check(job: arg.Job, set_: arg.Sets = None, json: arg.Json = False) -> int:
    """Preflight: key, model, quota, manifest, output, disk; each line with its remedy."""
    from pipeline.captioning.inputs import this_environment
    from pipeline.commands.check import check_command

    loaded, environ = _load(job, set_)
    return check_command(loaded, environ, this_environment(environ), as_json=json)


@command
def nightly(
    jobs: Annotated[list[str], Argument(metavar="JOB.yaml[:WEIGHT]…")],
    print_: Annotated[bool, Option("--print", help="Print only, change nothing.")] = False,
    remove: Annotated[bool, Option("--remove", help="Take the timers away.")] = False,
    system: Annotated[bool, Option("--system", help="For the machine, not the user.")] = False,
    cron: Annotated[
        bool | None, Option("--cron/--systemd", help="Default: systemd where it runs.")
    ] = None,
    per_day: Annotated[
        int | None, Option(metavar="N", help="The account's requests a day, to be shared.")
    ] = None,
    env_file: Annotated[
        Path | None, Option(help="File with the key; default: .env in this folder.")
    ] = None,
) -> int:
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
    return nightly_command(wanted, loaded, options, this_environment(_known.environ))


@command
def models(job: arg.Job, set_: arg.Sets = None, json: arg.Json = False) -> int:
    """Models that take images, with price, context and expiry, cheapest first."""
    from pipeline.captioning.inputs import this_environment
    from pipeline.commands.models import models_command

    loaded, environ = _load(job, set_)
    return models_command(loaded, environ, this_environment(environ), as_json=json)


@command
def export(
    job: arg.Job,
    dest: Annotated[Path | None, Argument(metavar="DEST", help="File or folder to write.")] = None,
    format_: arg.Format = None,
    beside: Annotated[
        bool, Option("--beside", help="Sidecars next to the pictures; no DEST.")
    ] = False,
    images: Annotated[
        bool, Option("--images", help="Parquet: with the pictures, as {bytes, path}.")
    ] = False,
    keep_lines: Annotated[
        bool, Option("--keep-lines", help="Sidecar, kohya: keep line breaks in captions.")
    ] = False,
    prefix: arg.Before = None,
    suffix: arg.After = None,
    recipe: arg.Recipe = None,
    prompt: arg.PromptName = None,
    shard_size: arg.ShardSize = None,
    shard_rows: Annotated[
        int | None, Option(min=1, help="hf, webdataset: rows of a shard.")
    ] = None,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace files that this job did not write.")
    ] = False,
    reviewed_only: Annotated[
        bool, Option("--reviewed-only", help="Only captions that were accepted or edited.")
    ] = False,
    raw_cells: Annotated[
        bool,
        Option("--raw-cells", help="CSV: no ' before cells that a spreadsheet runs as formulas."),
    ] = False,
    set_: arg.Sets = None,
) -> int:
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

    return export_command(loaded, request)


@command
def report(
    job: arg.Job,
    dest: Annotated[
        Path | None, Argument(metavar="[DEST]", help="Default: report.html in the output.")
    ] = None,
    set_: arg.Sets = None,
) -> int:
    """One self-contained HTML page: gallery, uptime, tokens, failures, runs."""
    loaded, environ = _load(job, set_)
    from pipeline.commands.report import report_command

    return report_command(loaded, dest, environ)


@command
def watch(
    job: arg.Job, port: arg.Port = 0, host: arg.HostName = "127.0.0.1", set_: arg.Sets = None
) -> int:
    """The report on a loopback port while a run goes on; captions appear as they land."""
    loaded, environ = _load(job, set_)
    from pipeline.commands.watch import watch_command

    return watch_command(loaded, environ, host=host, port=port)


@command
def review(
    job: arg.Job,
    as_: Annotated[
        str | None, Option("--as", metavar="NAME", help="Who decides; default: the user.")
    ] = None,
    import_: Annotated[
        Path | None,
        Option("--import", metavar="FILE", help="Take over an edited dataset, do not serve."),
    ] = None,
    port: arg.Port = 0,
    host: arg.HostName = "127.0.0.1",
    set_: arg.Sets = None,
) -> int:
    """Accept, edit, reject or flag captions, in a browser on loopback."""
    loaded, _ = _load(job, set_)
    from pipeline.commands import review, review_import

    if import_ is not None:
        return review_import.import_command(loaded, import_, as_)
    return review.review_command(loaded, as_, host=host, port=port)


@command
def push(
    job: arg.Job,
    name: Annotated[str, Argument(metavar="USER/NAME", help="The dataset on the hub.")],
    public: Annotated[
        bool, Option("--public", help="A new dataset may be seen by all; default: private.")
    ] = False,
    prefix: arg.Before = None,
    suffix: arg.After = None,
    shard_size: arg.ShardSize = None,
    set_: arg.Sets = None,
) -> int:
    """Upload the dataset with its pictures to the Hugging Face hub; resumable."""
    from pipeline.export.options import ExportOptions, ExportRequest, size_of

    options = ExportOptions(shard_size=size_of(shard_size))
    request = ExportRequest(dest=None, prefix=prefix, suffix=suffix, options=options)
    loaded, environ = _load(job, set_)
    from pipeline.commands.push import push_command

    return push_command(loaded, name, request, environ, public=public)


@command
def verify(
    job: arg.Job,
    repair: Annotated[bool, Option("--repair", help="Mend what needs no guessing.")] = False,
    forget: Annotated[list[str] | None, Option(help="Give up this part; ask anew.")] = None,
    set_: arg.Sets = None,
    json: arg.Json = False,
) -> int:
    """Check every promise on what is on disk."""
    loaded, _ = _load(job, set_)
    from pipeline.commands.verify import verify_command

    return verify_command(loaded, repair=repair, as_json=json, forget=forget or ())


@command
def adopt(
    job: arg.Job,
    folder: Annotated[Path, Argument(metavar="FOLDER", help="An output, or its parts.")],
    set_: arg.Sets = None,
) -> int:
    """Take over the captions of another output or of a lost state, by their keys."""
    from pipeline.captioning.inputs import this_environment

    loaded, environ = _load(job, set_)
    from pipeline.commands.adopt import adopt_command

    return adopt_command(loaded, folder, this_environment(environ))


@command
def init(
    dest: Annotated[Path, Argument(metavar="DEST", help="Where to write it.")] = Path("job.yaml"),
    profile: Annotated[str | None, Option(help="The service; default: openrouter.")] = None,
    images: Annotated[
        str | None, Option(metavar="PATH", help="Folder, file or URL of the images.")
    ] = None,
) -> int:
    """Write a commented job file with every key."""
    from pipeline.commands.init import init_command

    return init_command(dest, profile=profile, images=images)


@command
def schema() -> int:
    """Print the JSON Schema of the job file, for editors."""
    from pipeline.commands.init import schema_text

    print(schema_text())  # noqa: T201 - the command's result
    return 0


@command
def simulate(
    port: Annotated[int, Option(min=0, max=65535, help="Loopback port; 0: any.")] = 8765,
    profile: Annotated[str, Option(help="Which service to be; an unknown one lists them.")] = (
        "openrouter-2026-free"
    ),
    seed: Annotated[int, Option(help="Same seed, same answers.")] = 0,
    knob: Annotated[
        list[str] | None,
        Option(metavar="NAME=VALUE", help="Turn a knob (faults, limits)."),
    ] = None,
    log: Annotated[Path | None, Option(help="JSON lines of what was received.")] = None,
    knobs: Annotated[bool, Option("--knobs", help="List the knobs and end.")] = False,
) -> int:
    """Simulate the API of a service, on a loopback port."""
    from pipeline.simulator.server import describe_knobs, run_simulator

    if knobs:
        print(describe_knobs(profile))  # noqa: T201 - the command's result
        return 0
    return run_simulator(port=port, profile=profile, seed=seed, knobs=knob or [], log=log)


def main() -> None:
    """Run a command and end the process with the documented exit code."""
    open_streams()
    hear_signals()
    keep_little()
    try:
        code = answer(sys.argv[1:], COMMANDS)
    except BaseException as error:  # noqa: BLE001 - the border of the program
        code = exit_of(error, _known)
    leave(flushed(code))
