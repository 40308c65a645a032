"""How this process starts: little is loaded, and little memory kept that was given back.

A run over 20,000 rows peaks at 125 MB; without this at some 110 MB more, where pandas is installed.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys

#: `M_ARENA_MAX` of glibc's <malloc.h>.
_ARENA_MAX = -8


#: New containers before the collector looks for cycles among them (CPython's default is 700): more
#: than a small job makes from its start to its end, 172,000 with one row.
_YOUNG = 200_000


#: What pyarrow loads where it is installed and nothing here uses.
_UNUSED = (
    "numpy",
    "pandas",
    "pyarrow._s3fs",
    "pyarrow._gcsfs",
    "pyarrow._azurefs",
    "pyarrow._hdfs",
)


class _NotHere:
    """An import finder (PEP 302) that says of some modules that they are not there."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in _UNUSED:
            raise ModuleNotFoundError(f"{name} is not used here", name=name)


def keep_little() -> None:
    """Call once in a process of our own, before pyarrow is loaded and before any thread.

    - pyarrow loads numpy and pandas where they are installed, the latter to look whether a list is
      a data frame: 65 MB and a third of a second for something that nothing here uses. Its file
      systems of cloud vendors are 5 MB more; objects are read through fsspec here.
    - Arrow's own pool and a malloc arena for each thread keep what was freed for the next time.
      (The pool is chosen by an environment variable, since only that reaches Arrow's C++ side.)
    - A request makes some hundred containers and no cycles: looking for them every 700 is 6 % of
      a run.
    - pydantic reads the entry points of everything installed, to look for plugins of its own.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.meta_path.insert(0, _NotHere())
    gc.set_threshold(_YOUNG, 20, 50)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # another C library may have none
        mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Let the operating system have what was freed. Milliseconds: not on an event loop that is
    busy."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
