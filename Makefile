# Everything happens in a virtual environment of its own: nothing global is touched.
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

# uv installs twenty times as fast as pip, and is told what pip knows of indexes and of files on this machine.
told = $(shell $(PYTHON) -m pip config get global.$(1) 2> /dev/null)
UV = UV_SYSTEM_CERTS=true UV_DEFAULT_INDEX=$(or $(PIP_INDEX_URL),$(call told,index-url),https://pypi.org/simple) \
     UV_FIND_LINKS=$(or $(PIP_FIND_LINKS),$(call told,find-links)) $(BIN)/uv pip
PIP = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
export CBMIR_QDRANT_URL
# What is compiled once is not compiled by each of the tests' programs.
export PYTHONDONTWRITEBYTECODE =

.PHONY: install demo pacs check docs test tests server-test test-fast coverage bench bench-large constraints clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	{ $(PIP) uv && $(UV) install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'; } \
	  || $(PIP) --editable '.[dev]'
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

pacs:  # the real peer of the tests of PACS, which skip without it
	apt-get update && apt-get install --yes orthanc orthanc-dicomweb

constraints: install  # the newest versions that fit together
	{ head -1 constraints.txt; $(UV) compile --quiet --upgrade --no-annotate --no-header --python $(BIN)/python \
	    --extra azure --extra cluster --extra dev --extra gcs --extra serve-ray pyproject.toml | sed 's/+cpu//'; } \
	  > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
