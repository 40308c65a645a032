"""`python -m pipeline`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - from a checkout any Python may start it
    version = ".".join(map(str, sys.version_info[:2]))
    sys.stderr.write(
        f"caption-pipeline: needs Python 3.11 or later, this is {version}: make an environment "
        "with a newer one (python3.11 -m venv .venv)\n"
    )
    sys.exit(64)

from pipeline.cli import main

main()
