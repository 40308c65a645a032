"""Caption image datasets through a throttled vision API; see `pipeline/captioning/run.py` for the page that tells the run."""

__version__ = "0.1.0"
