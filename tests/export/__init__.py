"""Exports, opened again by readers that nobody here wrote."""
