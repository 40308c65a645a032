"""`nightly JOB…`: make a job run by itself, whenever its quota is new."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import fs
from pipeline.errors import JobError, OutputError, UsageError
from pipeline.nightly import units
from pipeline.nightly.units import Night

if TYPE_CHECKING:
    from pipeline.config import JobConfig
    from pipeline.stories.start import World


#: A job file, what it says, the environment it was read in, and its weight.
Told = tuple[Path, "JobConfig", Mapping[str, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NightlyOptions:
    """What the command line says."""

    only_print: bool = False
    remove: bool = False
    #: None: systemd where it runs, else cron.
    use_cron: bool | None = None
    #: Units of the system instead of the user's.
    system: bool = False


def nightly_command(jobs: Sequence[Told], options: NightlyOptions, world: World) -> int:
    """Write, or print, or remove; 0. JobError (78), OutputError (73) when it cannot be."""
    nights = [night_of(path, job, environ) for path, job, environ, _ in jobs]
    if len(jobs) > 1 and not options.remove:
        nights = share_day(nights, jobs, world)
    cron = options.use_cron if options.use_cron is not None else not _systemd_runs()
    if cron:
        _with_cron(nights, options)
    else:
        _with_systemd(nights, options)
    return 0


def night_of(path: Path, job: JobConfig, environ: Mapping[str, str]) -> Night:
    """A job as it will run; checks that it has what it needs."""
    from pipeline.api.endpoint import endpoint_of

    endpoint = endpoint_of(job.endpoint, environ)
    return Night(
        name=job.name,
        job=str(path.absolute()),
        folder=str(Path.cwd()),
        program=(sys.executable, "-m", "pipeline"),
        zone=endpoint.profile.limits.reset_zone,
        drain=job.run.drain,
    )


def share_day(nights: Sequence[Night], jobs: Sequence[Told], world: World) -> list[Night]:
    """Jobs on one account share its day by weight; jobs on different ones do not."""
    from pipeline.api.endpoint import endpoint_of
    from pipeline.stories.reach import reach

    groups: dict[str, list[int]] = {}
    for index, (_, job, environ, _) in enumerate(jobs):
        groups.setdefault(endpoint_of(job.endpoint, environ).account, []).append(index)
    found = list(nights)
    for members in groups.values():
        if len(members) < 2:
            continue
        path, job, environ, _ = jobs[members[0]]
        told = job.quota.requests_per_day
        limit = told if isinstance(told, int) else None
        if limit is None:
            found_out = asyncio.run(reach(job, endpoint_of(job.endpoint, environ), world))
            limit = found_out.allowance.daily
        if limit is None:
            continue  # nothing is scarce, so there is nothing to share
        if limit < len(members):
            raise JobError(
                f"{path}: {limit} requests a day cannot be shared by {len(members)} jobs"
            )
        weights = [jobs[index][3] for index in members]
        for index, share in zip(members, units.shares(limit, weights), strict=True):
            found[index] = replace(nights[index], share=max(1, share))
    return found


# --- systemd -----------------------------------------------------------------------------------


def _systemd_runs() -> bool:
    """systemd.unit(5): this folder exists if and only if systemd is what started the system."""
    return Path("/run/systemd/system").is_dir()


def unit_folder(*, system: bool) -> Path:
    """Where units are looked for (systemd.unit(5), "Unit file load path")."""
    if system:
        return Path("/etc/systemd/system")
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "systemd" / "user"


def _with_systemd(nights: Sequence[Night], options: NightlyOptions) -> None:
    folder = unit_folder(system=options.system)
    for night in nights:
        files = {
            f"{night.unit}.service": units.service(night),
            f"{night.unit}.timer": units.timer(night),
        }
        if options.remove:
            _systemctl(options, "disable", "--now", f"{night.unit}.timer")
            gone = [folder / name for name in files if (folder / name).exists()]
            for path in gone:
                path.unlink()
            _say(f"{night.unit}: removed" if gone else f"{night.unit}: was not there")
            continue
        verify(files, system=options.system)
        if options.only_print:
            for name, text in files.items():
                _say(f"# {folder / name}\n{text}")
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                fs.write_atomic(folder / name, text.encode())
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({error.strerror})") from None
        started = _systemctl(options, "daemon-reload") and _systemctl(
            options, "enable", "--now", f"{night.unit}.timer"
        )
        scope = "" if options.system else "--user "
        _say(
            f"{night.unit}: runs at 00:00:{units.MARGIN:02d} {night.zone}, and at once after a "
            f"missed night; look at it with `systemctl {scope}list-timers`"
            if started
            else f"{night.unit}: written to {folder}; start it with `systemctl {scope}"
            f"enable --now {night.unit}.timer`"
        )
    if not options.system and not options.remove and not options.only_print:
        _say("the timers run while you are logged in; always: `loginctl enable-linger`")


def verify(files: Mapping[str, str], *, system: bool) -> None:
    """Let systemd read the units before they are installed; JobError with its words."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        return
    with tempfile.TemporaryDirectory() as name:
        paths = []
        for file, text in files.items():
            (Path(name) / file).write_text(text)
            paths.append(str(Path(name) / file))
        scope = ["--system"] if system else ["--user"]
        done = subprocess.run(  # noqa: S603 - arguments are ours, no shell
            [tool, *scope, "verify", "--man=no", *paths],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "XDG_RUNTIME_DIR": os.environ.get("XDG_RUNTIME_DIR", name)},
        )
        ours = [line for line in done.stderr.splitlines() if name in line or "caption-" in line]
        if done.returncode and ours:
            raise JobError(f"systemd refuses the unit: {ours[0].replace(name, '…')}")


def _systemctl(options: NightlyOptions, *arguments: str) -> bool:
    tool = shutil.which("systemctl")
    if tool is None or not _systemd_runs():
        return False
    scope = [] if options.system else ["--user"]
    done = subprocess.run(  # noqa: S603 - arguments are ours, no shell
        [tool, *scope, *arguments], capture_output=True, check=False
    )
    return done.returncode == 0


# --- cron --------------------------------------------------------------------------------------


def _with_cron(nights: Sequence[Night], options: NightlyOptions) -> None:
    tool = None if options.only_print else shutil.which("crontab")
    if tool is None:
        if options.remove:
            raise UsageError("nightly --remove: there is no crontab on this machine")
        if not options.only_print:
            _say("there is no crontab on this machine; the lines would be:")
        for night in nights:
            _say(units.cron(night))
        return
    done = subprocess.run(  # noqa: S603 - arguments are ours, no shell
        [tool, "-l"], capture_output=True, text=True, check=False
    )
    table = done.stdout if done.returncode == 0 else ""  # no table yet is an error to crontab
    for night in nights:
        table = units.without(table, night.unit)
        if not options.remove:
            table += units.cron(night) + "\n"
    put = subprocess.run(  # noqa: S603 - arguments are ours, no shell
        [tool, "-"], input=table, capture_output=True, text=True, check=False
    )
    if put.returncode:
        raise OutputError(f"crontab: {put.stderr.strip() or 'the table was not taken'}")
    for night in nights:
        _say(f"{night.unit}: " + ("removed" if options.remove else "each half hour, by cron"))


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the command's result


def weights_of(arguments: Sequence[str]) -> dict[Path, int]:
    """`a.yaml:2 b.yaml` as job file -> weight; UsageError (64)."""
    try:
        return {Path(path): weight for path, weight in units.weighted(arguments).items()}
    except ValueError as error:
        raise UsageError(f"nightly: {error}") from None


__all__ = ["NightlyOptions", "nightly_command", "verify", "weights_of"]
