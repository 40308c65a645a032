"""A service and a timer, as text for systemd.

`OnCalendar` takes the zone's name, so that summer time needs no thought (systemd.time(7)).
`Persistent` starts a night that the machine slept through, and `OnStartupSec` one that a reboot
cut short: a run with nothing to do, or with the day spent, ends at once and sends nothing.
"""

from __future__ import annotations

from pipeline.nightly.scheduled_job import AFTER_BOOT, MARGIN, ScheduledJob


def service(night: ScheduledJob) -> str:
    """The service. It holds no secret: the key stays in the file that is named."""
    program, *arguments = night.command
    command = " ".join(
        [_quoted(program), *(_quoted(argument).replace("$", "$$") for argument in arguments)]
    )
    system = night.user is not None
    return "\n".join(
        [
            "[Unit]",
            f"Description=Captions of {_plain(night.job.name)}",
            *(["Wants=network-online.target", "After=network-online.target"] if system else []),
            "",
            "[Service]",
            "Type=oneshot",
            *([f"User={night.user}"] if system else []),
            f"WorkingDirectory={_plain(str(night.folder))}",
            *([f"EnvironmentFile={_plain(str(night.env_file))}"] if night.env_file else []),
            f"ExecStart={command}",
            "# Stopped with work left: the next night goes on. 143: stopped by systemd.",
            "SuccessExitStatus=75",
            "SuccessExitStatus=143",
            "# Killed from outside (out of memory): go on at once, what was answered is kept.",
            "Restart=on-abnormal",
            "RestartSec=60",
            "TimeoutStartSec=infinity",
            f"TimeoutStopSec={night.ending}",
            "",
        ]
    )


def timer(night: ScheduledJob) -> str:
    """The timer that starts the service when the quota is new."""
    return "\n".join(
        [
            "[Unit]",
            f"Description=Nightly captions of {_plain(night.job.name)}",
            "",
            "[Timer]",
            *[f"OnCalendar={calendar(zone)}" for zone in night.zones],
            f"OnStartupSec={AFTER_BOOT}",
            "Persistent=true",
            "AccuracySec=1s",
            f"Unit={night.name}.service",
            "",
            "[Install]",
            "WantedBy=timers.target",
            "",
        ]
    )


def calendar(zone: str) -> str:
    """Each day's first moment in which the new quota counts."""
    return f"*-*-* 00:00:{MARGIN:02} {zone}"


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """One word of a command line (systemd.service(5), "Command lines")."""
    return '"' + _plain(word).replace("\\", "\\\\").replace('"', '\\"') + '"'
