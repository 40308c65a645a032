"""Manifests: every format, every way to be wrong, at size."""
