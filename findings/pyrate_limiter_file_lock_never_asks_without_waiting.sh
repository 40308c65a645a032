#!/usr/bin/env bash
# pyrate-limiter 4.5.1 with filelock 4.3.1: a limit that processes share (`use_file_lock=True`) raises
# TypeError on every `try_acquire(..., blocking=False)`; with filelock 4.0.0 it answers True or False.
#
# A limiter that may not wait is what a scheduler asks ("is there quota left today?"). pyrate-limiter
# takes the lock by `lock.acquire(False)`, where filelock's first argument is a timeout in seconds:
# False was 0 until filelock 4.1 began to refuse a bool. The optional dependency names no upper
# bound, so a fresh environment has the pair that fails, and one that waits (the default) works.
#
# Seen: filelock 4.0.0 True; 4.3.1 TypeError: timeout must be a number of seconds, not bool.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
cat >ask.py <<'PYTHON'
from importlib.metadata import version

from pyrate_limiter import Duration, Limiter, Rate, SQLiteBucket

limiter = Limiter(
    SQLiteBucket.init_from_file([Rate(50, Duration.DAY)], db_path="day.sqlite", use_file_lock=True)
)
try:
    answer = repr(limiter.try_acquire("key", blocking=False))
except TypeError as error:
    answer = f"TypeError: {error}"
waiting = limiter.try_acquire("key", blocking=True, timeout=1)
print(f"pyrate-limiter {version('pyrate-limiter')}, filelock {version('filelock')}: {answer}; waiting: {waiting}")
PYTHON
for filelock in 4.0.0 4.3.1; do
  venv/bin/pip install --quiet --disable-pip-version-check pyrate-limiter==4.5.1 "filelock==$filelock"
  rm -f day.sqlite*
  venv/bin/python ask.py | tee -a seen
done
grep -q '4.0.0: True; waiting: True' seen
grep -q '4.3.1: TypeError: timeout must be a number of seconds, not bool; waiting: True' seen
