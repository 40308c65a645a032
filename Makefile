# One command each; CONTRIBUTING.md says what they are for.
PYTHON ?= python
# Test processes at once: more than a small machine has cores, since many tests wait for other processes.
JOBS ?= 4
PYTEST = $(PYTHON) -m pytest -q -n $(JOBS) --dist worksteal

# Thousands of processes start Python: each would compile the program anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: check test coverage faults peers weekly bench bench-ci

check:
	ruff format --check .
	ruff check .
	mypy
	$(PYTHON) -m pytest -q tests/test_floors.py

test:
	$(PYTEST) --durations=25 -m "not weekly and not faults and not peers"

# Half as long again as without: `make weekly` does it.
coverage:
	rm -f .coverage .coverage.*
	$(PYTHON) -m coverage run -m pytest -q -n $(JOBS) --dist worksteal -m "not weekly and not faults and not peers"
	$(PYTHON) -m coverage combine -q
	$(PYTHON) -m coverage report --skip-covered --sort=cover

faults:
	$(PYTEST) --durations=25 -m "faults and not weekly" tests

peers:
	$(PYTEST) -m peers tests/peers

# WEEKLY_N=… random weeks from WEEKLY_SEED=… on; both are printed.
weekly:
	WEEKLY=1 $(PYTEST) -rP --show-capture=stdout --durations=25 -m "weekly or faults" tests
	$(MAKE) coverage

bench:
	$(PYTHON) bench/ratios.py
	$(PYTHON) bench/startup.py
	$(PYTHON) bench/overhead.py --promised
	$(PYTHON) bench/packing.py
	$(PYTHON) bench/images.py
	$(PYTHON) bench/inlined.py
	$(PYTHON) bench/inlined.py --pixels 1e6
	$(PYTHON) bench/scale.py 20000 1000000
	$(PYTHON) bench/checkpoint.py
	$(PYTHON) bench/export.py
	$(PYTHON) bench/quota.py
	$(PYTHON) bench/report.py --promised

bench-ci:
	$(PYTHON) bench/ratios.py --ci --rounds 5
	$(PYTHON) bench/startup.py --rounds 1
	$(PYTHON) bench/export.py --rows 20000 --pictures 500 --rounds 1
	$(PYTHON) bench/report.py --rows 20000 --promised
	$(PYTHON) bench/overhead.py --rows 6000 --rounds 5 --limit 3.0
	$(PYTHON) bench/overhead.py --rows 20000 --rounds 3 --packs 16 --limit 0.9 --promised
	$(PYTHON) bench/images.py --images 6 --rounds 2 --downloads 40
	$(PYTHON) bench/inlined.py --images 100 --rounds 2 --pixels 1e6 --limit 2.4
