"""The same nights as lines of a crontab, where there is no systemd.

Cron knows no zones (`CRON_TZ` exists in some implementations only) and no seconds. So the line
is tried every quarter of an hour, the step in which the world's zones differ, and goes on when
it is midnight in the quota's zone. `@reboot` catches up after downtime.
"""

from __future__ import annotations

import shlex

from pipeline.errors import JobError
from pipeline.nightly.scheduled_job import AFTER_BOOT, MARGIN, ScheduledJob

#: Longest command that Vixie cron keeps whole.
LONGEST = 998


def lines(night: ScheduledJob) -> list[str]:
    """The job's block: a marker, the nightly line, the line after a boot, a marker."""
    do = _command(night)
    tests = "".join(f'[ "$(TZ={zone} date +%H%M)" = 0000 ] || ' for zone in night.zones)
    midnight = f"{tests}exit 0; sleep {MARGIN}; {do}"
    booted = f"sleep {AFTER_BOOT}; {do}"
    for command in (midnight, booted):
        if len(_escaped(command)) > LONGEST:
            raise JobError(f"{night.job}: the paths are too long for a crontab; use shorter ones")
    return [
        _begin(night.name),
        f"*/15 * * * * {_escaped(midnight)}",
        f"@reboot {_escaped(booted)}",
        _end(night.name),
    ]


def added(table: str, night: ScheduledJob) -> str:
    """A crontab with this job's block in it, once."""
    kept = removed(table, night.name).rstrip("\n")
    return "\n".join([*([kept] if kept else []), *lines(night), ""])


def removed(table: str, name: str) -> str:
    """A crontab without a job's block; all else as it was."""
    kept, inside = [], False
    for line in table.splitlines(keepends=True):
        if line.strip() == _begin(name):
            inside = True
        elif inside:
            inside = line.strip() != _end(name)
        else:
            kept.append(line)
    return "".join(kept)


def _command(night: ScheduledJob) -> str:
    """For /bin/sh. Quiet, since cron mails what is printed: then only trouble is."""
    run = shlex.join([*night.command, "--quiet"])
    file = f"set -a; . {shlex.quote(str(night.env_file))}; set +a; " if night.env_file else ""
    cd = shlex.quote(str(night.folder))
    return f"cd {cd} || exit; {file}{run}; code=$?; case $code in 75|76) ;; *) exit $code ;; esac"


def _escaped(command: str) -> str:
    """A bare % would end the command (crontab(5))."""
    return command.replace("%", "\\%")


def _begin(name: str) -> str:
    return f"# {name}: begin (caption-pipeline nightly)"


def _end(name: str) -> str:
    return f"# {name}: end"
