# Everything happens in a virtual environment of its own: nothing global is touched.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

# What the container image has beyond this environment, by pip's own report.
define NAMES
import json, sys
for one in json.load(sys.stdin)["install"]:
    name, version = one["metadata"]["name"], one["metadata"]["version"]
    if name != "cbmir":
        print(f"{name}=={version}")
endef
export NAMES
export CBMIR_QDRANT_URL

.PHONY: install demo check docs test tests server-test test-fast coverage bench bench-large constraints clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/python -m tests.demo demo

check: install docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir build/site

test: install  # the checks beside the tests, in the time in which those wait
	$(MAKE) --no-print-directory --jobs 2 check tests

# Many tests wait, for Ray or a server: a third process fills two cores, where there is memory for it.
PROCESSES := $(shell awk '/MemTotal/ {print ($$2 > 12e6) ? 3 : 2}' /proc/meminfo 2> /dev/null || echo 2)

tests: install
	$(BIN)/python -m pytest --numprocesses $(PROCESSES)

server-test: install  # what a real server promises: make server-test CBMIR_QDRANT_URL=http://HOST:6333 (kills and cuts apart)
	$(BIN)/python -m pytest -m server

test-fast: install  # for every save: what starts no Ray and trains nothing
	$(BIN)/python -m pytest --numprocesses 2 -m "not slow" -q

coverage: install  # what the tests' own processes enter; what they start as programs and in Ray is not seen
	$(BIN)/python -m pytest --numprocesses 2 --cov --cov-report term:skip-covered --cov-report html:build/coverage

bench: install
	$(BIN)/python -m tests.benchmarks $(BENCH)

bench-large: install
	$(BIN)/python -m tests.benchmarks.large $(BENCH)

constraints: install
	$(BIN)/pip freeze --exclude-editable > frozen.txt
	$(BIN)/pip install --quiet --dry-run --report cluster.json '.[azure,cluster,gcs]'
	{ head -1 constraints.txt; \
	  { cat frozen.txt; $(BIN)/python -c "$$NAMES" < cluster.json; } | sed 's/+cpu//' | sort --ignore-case; } > constraints.new
	rm frozen.txt cluster.json
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
