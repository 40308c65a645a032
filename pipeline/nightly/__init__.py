"""A run every night: units for systemd and lines for cron, as text."""
