"""Quota: never over a limit, nothing left over. One gate (`gate.py`) that every request passes."""
