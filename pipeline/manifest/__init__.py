"""Manifests: any table, list or folder of images, streamed as rows. Start at `open.py`."""
