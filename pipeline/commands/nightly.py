"""`nightly`: have jobs come back by themselves when the quota is new.

systemd where it runs, else the user's crontab. What is written was read by the real tool first
(`systemd-analyze verify`), and holds no secret.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import fs
from pipeline.errors import JobError, OutputError, ServiceError, UsageError
from pipeline.nightly import cron, systemd
from pipeline.nightly.scheduled_job import ScheduledJob, shares, unit_name

if TYPE_CHECKING:
    from pipeline.captioning.inputs import Environment
    from pipeline.config.job import JobConfig
    from pipeline.service.settings import EndpointSettings

#: Seconds that the last writing takes after the requests in flight got theirs (`run.drain`).
AFTER_DRAIN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class NightlyOptions:
    """What the command line says."""

    only_print: bool = False
    remove: bool = False
    system: bool = False
    #: None: systemd where it runs, else cron.
    cron: bool | None = None
    #: The account's requests a day, where the service is not to be asked for it.
    per_day: int | None = None
    env_file: Path | None = None

    def __post_init__(self) -> None:
        if self.system and self.cron:
            raise UsageError("--system and --cron: choose one of the two")
        if self.only_print and self.remove:
            raise UsageError("--print and --remove: choose one of the two")
        if self.per_day is not None and self.per_day < 1:
            raise UsageError("--per-day: write a number of at least 1")
        if self.env_file is not None and not self.env_file.is_file():
            raise UsageError(f"--env-file {self.env_file}: no such file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One `JOB.yaml[:WEIGHT]` of the command line."""

    #: As it was written.
    path: Path
    weight: int = 1

    @property
    def absolute(self) -> Path:
        return self.path.absolute()


def read_jobs(texts: Sequence[str]) -> list[Wanted]:
    """`a.yaml:2 b.yaml` -> paths and weights. UsageError (64)."""
    jobs = []
    for word in texts:
        path, colon, weight = word.rpartition(":")
        if not colon or not weight.isdecimal():
            path, weight = word, "1"
        if int(weight) < 1:
            raise UsageError(f"{word}: a weight is a number of at least 1")
        jobs.append(Wanted(path=Path(path), weight=int(weight)))
    if len({entry.absolute for entry in jobs}) < len(jobs):
        raise UsageError("a job is named twice; give it one weight")
    return jobs


def nightly_command(
    wanted: Sequence[Wanted],
    jobs: Sequence[JobConfig],
    options: NightlyOptions,
    environment: Environment,
) -> int:
    """Write, print or remove the timers; 0."""
    by_cron = options.cron
    if by_cron is None:
        by_cron = not (options.system or options.only_print or _systemd())
    if options.remove:
        said = _remove([unit_name(entry.absolute) for entry in wanted], options, by_cron=by_cron)
    else:
        nights = nights_of(wanted, jobs, options, environment)
        if options.only_print:
            said = printed(nights, by_cron=by_cron)
        elif by_cron:
            said = _into_crontab(nights)
        else:
            said = _into_systemd(nights, system=options.system)
        for job, night in zip(jobs, nights, strict=True):
            for warning in warnings(job, night, environment.environ):
                print(f"caption-pipeline: {warning}", file=sys.stderr)  # noqa: T201 - for people
    print("\n".join(said))  # noqa: T201 - the command's result
    return 0


def nights_of(
    wanted: Sequence[Wanted],
    jobs: Sequence[JobConfig],
    options: NightlyOptions,
    environment: Environment,
) -> list[ScheduledJob]:
    """Zone and share of every job. Jobs with one key at one service share its day."""
    from pipeline.captioning.inputs import one_by_one

    accounts: dict[tuple[str, ...], list[int]] = {}
    for at, job in enumerate(jobs):
        for account in dict.fromkeys(map(_account, one_by_one(job).values())):
            accounts.setdefault(account, []).append(at)
    share: dict[int, int] = {}
    for members in accounts.values():
        if len(members) > 1:
            if any(jobs[at].endpoints for at in members):
                raise JobError(
                    "a job with several endpoints shares none of their days with another job: give "
                    "each endpoint its own quota.requests_per_day, and start each job by itself"
                )
            daily = options.per_day or _daily(jobs[members[0]], environment)
            parts = shares(daily, [wanted[at].weight for at in members])
            for at, part in zip(members, parts, strict=True):
                own = jobs[at].quota.requests_per_day
                share[at] = min(part, own) if isinstance(own, int) else part
    return [
        ScheduledJob(
            job=entry.absolute,
            folder=Path.cwd(),
            python=Path(sys.executable),
            zone=(zones := _zones(job))[0],
            also=zones[1:],
            share=share.get(at),
            env_file=options.env_file.absolute() if options.env_file else None,
            user=_user() if options.system else None,
            ending=int(job.run.drain) + AFTER_DRAIN,
        )
        for at, (entry, job) in enumerate(zip(wanted, jobs, strict=True))
    ]


def _zones(job: JobConfig) -> tuple[str, ...]:
    """Of the midnights at which a day of this job begins."""
    from pipeline.service.profiles import PROFILES

    endpoints: Sequence[EndpointSettings] = job.endpoints or [job.endpoint]
    return tuple(dict.fromkeys(PROFILES[each.profile].limits.reset_zone for each in endpoints))


def _account(job: JobConfig) -> tuple[str, ...]:
    endpoint = job.endpoint
    return endpoint.profile, str(endpoint.base_url), str(endpoint.api_key_env)


def _daily(job: JobConfig, environment: Environment) -> int:
    """The account's requests a day, asked of the service without a request that counts."""
    import asyncio

    from pipeline.commands.service_status import service_status
    from pipeline.service.endpoint import endpoint_of

    status = asyncio.run(
        service_status(job, endpoint_of(job.endpoint, environment.environ), environment)
    )
    if status.quota_limits.daily is not None and status.limits.requests_per_day is None:
        return status.quota_limits.daily  # the job's own number, where the service tells none
    if status.limits.requests_per_day is None:
        raise JobError(
            "no daily limit is known that these jobs could share; write --per-day N, or start "
            "each by itself"
        )
    return status.limits.requests_per_day


def warnings(job: JobConfig, night: ScheduledJob, environ: Mapping[str, str]) -> list[str]:
    """What would keep the run from its key at night."""
    from pipeline.config.env import read_env_file
    from pipeline.service.profiles import PROFILES

    endpoints: Sequence[EndpointSettings] = job.endpoints or [job.endpoint]
    names = dict.fromkeys(each.api_key_env or PROFILES[each.profile].key_env for each in endpoints)
    file = night.env_file or night.folder / ".env"
    kept = read_env_file(file)
    said = []
    for name in names:
        if name is not None and not kept.get(name):
            where = "only in this shell's environment" if environ.get(name) else "nowhere yet"
            said.append(
                f"{name} is {where}: put it into {file} (mode 0600), a timer starts without it"
            )
    return said


def units(night: ScheduledJob) -> dict[str, str]:
    """File name -> text."""
    return {
        f"{night.name}.service": systemd.service(night),
        f"{night.name}.timer": systemd.timer(night),
    }


def printed(nights: Sequence[ScheduledJob], *, by_cron: bool) -> list[str]:
    """All files, or the lines for a crontab."""
    if by_cron:
        return [line for night in nights for line in cron.lines(night)]
    return [
        line
        for night in nights
        for name, text in units(night).items()
        for line in (f"# {name}", text)
    ]


def _systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _user() -> str:
    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name


def _folder(*, system: bool) -> Path:
    if system:
        return Path("/etc/systemd/system")
    configured = os.environ.get("XDG_CONFIG_HOME")
    return (Path(configured) if configured else Path.home() / ".config") / "systemd" / "user"


def _into_systemd(nights: Sequence[ScheduledJob], *, system: bool) -> list[str]:
    files = {name: text for night in nights for name, text in units(night).items()}
    verify(files)
    folder = _folder(system=system)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            fs.write_atomic(folder / name, text.encode())
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from None
    said = [str(folder / name) for name in files]
    timers = [name for name in files if name.endswith(".timer")]
    if not (_control(system, "daemon-reload") and _control(system, "enable", "--now", *timers)):
        how = "systemctl" if system else "systemctl --user"
        said.append(f"to start: {how} daemon-reload && {how} enable --now {' '.join(timers)}")
    if not system:
        said.append("to run while nobody is logged in: loginctl enable-linger")
    return said


def verify(files: Mapping[str, str]) -> None:
    """Have systemd read the units, before they are put into place. JobError with its words."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        return  # systemd without its tools: `systemctl enable` says what is wrong
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in files]
        for path in paths:
            path.write_text(files[path.name], encoding="utf-8")
        done = subprocess.run(  # noqa: S603 - a fixed command over our own files
            [tool, "verify", *map(str, paths)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise JobError(f"systemd refuses the units: {done.stderr.strip()}")


def _control(system: bool, *arguments: str) -> bool:
    tool = shutil.which("systemctl")
    if tool is None or not _systemd():
        return False
    scope = [] if system else ["--user"]
    done = subprocess.run([tool, *scope, *arguments], capture_output=True, check=False)  # noqa: S603 - fixed
    return done.returncode == 0


def _into_crontab(nights: Sequence[ScheduledJob]) -> list[str]:
    table = _crontab()
    for night in nights:
        table = cron.added(table, night)
    _crontab(table)
    return [
        f"{night.name}: in the crontab (crontab -l); starts at 00:00:05 {' and '.join(night.zones)}, "
        f"`status {night.job.name}` shows how each night went"
        for night in nights
    ]


def _crontab(table: str | None = None) -> str:
    """Read the user's crontab, or replace it."""
    tool = shutil.which("crontab")
    if tool is None:
        raise ServiceError(
            "neither systemd nor cron runs here; `nightly --print` shows what to start at night, "
            "docs/nightly.md how other schedulers do it"
        )
    command = [tool, "-l"] if table is None else [tool, "-"]
    done = subprocess.run(command, input=table, capture_output=True, text=True, check=False)  # noqa: S603 - fixed
    if done.returncode and not (table is None and "no crontab" in done.stderr):
        raise OutputError(f"crontab: {done.stderr.strip()}")
    return done.stdout if table is None and not done.returncode else ""


def _remove(names: Sequence[str], options: NightlyOptions, *, by_cron: bool) -> list[str]:
    if by_cron:
        table = _crontab()
        left = table
        for name in names:
            left = cron.removed(left, name)
        if left != table:
            _crontab(left)
        return [f"{name}: not in the crontab any more" for name in names]
    folder = _folder(system=options.system)
    _control(options.system, "disable", "--now", *(f"{name}.timer" for name in names))
    said = []
    for name in names:
        files = [folder / f"{name}.{kind}" for kind in ("timer", "service")]
        there = [path for path in files if path.exists()]
        for path in there:
            path.unlink()
        said += [f"removed {path}" for path in there] or [f"{name}: there was no timer"]
    _control(options.system, "daemon-reload")
    return said
