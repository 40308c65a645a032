"""A systemd service and timer, or a line for cron, that run a job when its quota is new. Pure.

No secret stands in either: the key comes from the `.env` of the job's folder, which the program
reads itself, or from where systemd keeps credentials of the user.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

#: Seconds after the reset at which a run starts: clocks differ a little.
MARGIN = 5
#: Seconds that systemd waits beyond the drain before it kills a run.
GRACE = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One job to run each night."""

    name: str
    #: Absolute path of the job file, and of the folder that the run starts in.
    job: str
    folder: str
    #: The program, as arguments before `run`.
    program: tuple[str, ...]
    #: Zone whose midnight is the quota's reset.
    zone: str
    #: `run.drain`, in seconds.
    drain: float
    #: Requests a day for this job, where several share them; None: all there are.
    share: int | None = None

    @property
    def unit(self) -> str:
        """Name of the units, without their ending: readable, and another for each job file."""
        words = re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-").lower()[:40] or "job"
        return f"caption-pipeline-{words}-{hashlib.sha256(self.job.encode()).hexdigest()[:6]}"

    @property
    def command(self) -> tuple[str, ...]:
        more = () if self.share is None else ("--set", f"quota.requests_per_day={self.share}")
        return (*self.program, "run", self.job, "--quiet", *more)


def service(night: Night) -> str:
    """The service: one run; 75 (work is left, the quota is spent) is a success."""
    return f"""\
[Unit]
Description=Caption the images of {_percent(night.name)}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={_percent(night.folder)}
ExecStart={" ".join(_word(word) for word in night.command)}
SuccessExitStatus=75
TimeoutStartSec=infinity
TimeoutStopSec={night.drain + GRACE:g}
Nice=5
"""


def timer(night: Night) -> str:
    """The timer: at the reset and a little; at once after a machine was off at that time."""
    return f"""\
[Unit]
Description=Caption the images of {_percent(night.name)} when the quota is new

[Timer]
OnCalendar=*-*-* 00:00:{MARGIN:02d} {night.zone}
AccuracySec=1s
Persistent=true

[Install]
WantedBy=timers.target
"""


def cron(night: Night) -> str:
    """A line for crontab, without its end.

    Cron knows the machine's zone alone, no missed times, and no summer in another zone. So the
    run starts each half hour: on a spent day it ends within a second or two and sends nothing,
    and a run that is still going on keeps another from starting (76).
    """
    command = " ".join(shlex.quote(word) for word in night.command)
    line = (
        f"0,30 * * * * sleep {MARGIN}; cd {shlex.quote(night.folder)} && {{ {command}; "
        f"case $? in 0|75|76) true;; *) false;; esac; }}"
    )
    # A bare % is a line break to cron.
    return f"{line.replace('%', chr(92) + '%')} # {night.unit}"


def without(table: str, unit: str) -> str:
    """A crontab without the line of this unit."""
    kept = [line for line in table.splitlines() if not line.endswith(f" # {unit}")]
    return "".join(f"{line}\n" for line in kept)


def shares(limit: int, weights: Sequence[int]) -> list[int]:
    """A day's requests by weight, each at least 1; by largest remainder, so that none is left."""
    every = sum(weights)
    exact = [Fraction(limit * weight, every) for weight in weights]
    found = [int(one) for one in exact]
    order = sorted(range(len(weights)), key=lambda at: (found[at] - exact[at], at))
    for at in order[: limit - sum(found)]:
        found[at] += 1
    return found


def weighted(arguments: Sequence[str]) -> Mapping[str, int]:
    """`a.yaml:2 b.yaml` as job file -> weight; ValueError for a weight below 1 or a double."""
    found: dict[str, int] = {}
    for argument in arguments:
        path, colon, weight = argument.rpartition(":")
        if not colon or not weight.isdecimal():
            path, weight = argument, "1"
        if int(weight) < 1:
            raise ValueError(f"{argument}: a weight is 1 or more")
        if path in found:
            raise ValueError(f"{path}: is named twice")
        found[path] = int(weight)
    return found


def _percent(text: str) -> str:
    """`%` begins a specifier in unit files."""
    return "".join(char if char.isprintable() else "?" for char in text).replace("%", "%%")


def _word(word: str) -> str:
    """An argument of ExecStart (systemd.service(5), "Command lines"): quoted, `$` and `%` too."""
    quoted = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$").replace("%", "%%")
    return f'"{quoted}"'
