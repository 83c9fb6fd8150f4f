# Two commands are all a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

install: $(READY)  ## Make .venv with everything, from the hashed lock.

demo: $(READY)  ## Start Embarc with a sandbox and a receiver, and watch one webhook arrive.
	$(BIN)/embarc demo

examples/node/node_modules/.ready: examples/node/package-lock.json
	@command -v npm >/dev/null || { echo "npm is not installed: apt-get install nodejs npm"; exit 1; }
	cd examples/node && npm ci --no-audit --no-fund
	touch $@

test: $(READY) examples/node/node_modules/.ready  ## Every test that needs no browser.
	$(BIN)/python -m pytest

test-browser: $(READY)  ## The tests that need a Chromium.
	$(BIN)/python -m pytest -m browser tests/browser

check: $(READY)  ## The fast loop: format, lint, types, and the tests without processes, on the embedded store.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -k "not postgres" tests/core tests/contracts tests/engine tests/api tests/inlets tests/shape tests/docs

format: $(READY)  ## Format and mend what can be mended.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

SEEDS ?= 500
simulate: $(READY)  ## Months of failures, crashes and people, as many seeds as you like: SEEDS=1000.
	$(BIN)/python -m embarc.testing.simulation --seeds $(SEEDS)

FUZZ_SECONDS ?= 20
fuzz: $(READY)  ## Throw what a fuzzer finds at every parser of hostile text, FUZZ_SECONDS each.
	@for target in url headers signature retry-after; do \
	  $(BIN)/python -m tests.fuzz.harness $$target -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1 || exit 1; \
	done

bench-quick: $(READY)  ## CPU microseconds per delivered webhook, in under two minutes.
	$(BIN)/python -m bench.quick

bench-isolation: $(READY)  ## What a hundred hooks feel of ten dead ones among them.
	$(BIN)/python -m bench.isolation

bench-postgres: $(READY)  ## What a claim costs in PostgreSQL while history grows, a backlog waits, a transaction stays open.
	$(BIN)/python -m bench.backlog

docs: $(READY)  ## Write docs/reference from the code.
	$(BIN)/python docs/generate.py

lock: $(READY)  ## Pin the newest versions that pyproject.toml allows, with hashes and no index.
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --no-header --python-version 3.11 --upgrade --quiet -o requirements.lock

.PHONY: help install demo test test-browser check format simulate bench-quick bench-isolation bench-postgres docs lock fuzz
