"""Exports: record batches written as files that others read. Start at `export.py`."""
