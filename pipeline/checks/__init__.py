"""Checks of captions: pure functions of a caption's text. Start at `checks.py`."""
