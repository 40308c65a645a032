"""A run every night, by systemd or cron."""
