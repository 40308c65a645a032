"""The quota's new day as a timer: systemd units, or lines of a crontab, as text."""
