# Two commands matter: `make bench` (a demonstration, about ten minutes) and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
RUN := $(BIN)/dehaze-bench

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev bench docs test test-slow test-faults lint format type layers clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --editable '.[plots]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(VENV)/.installed ## make .venv and install the package, with what draws pictures
setup-dev: $(VENV)/.installed-dev ## the same with what tests and linters need

bench: setup ## train the demonstration and print its table; a second call only prints it
	$(RUN) sweep experiments/demo.yaml

docs: setup ## make docs/scans.md with its pictures, docs/protocols.md and docs/models.md anew, from conf
	$(BIN)/python -m dehaze_bench.scans.page docs
	$(BIN)/python -m dehaze_bench.protocols_page docs
	$(BIN)/python -m dehaze_bench.model_page docs

test: setup-dev ## run the test suite without the slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m 'not slow and not faults' -n auto

# Without its CUDA kernels and dependencies, and beside the environment, for the test of its Triton kernels only.
$(VENV)/mamba-ssm/.installed: $(VENV)/.installed-dev
	MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE $(BIN)/pip install --quiet --no-build-isolation --no-deps \
		--upgrade --target $(VENV)/mamba-ssm mamba-ssm==2.3.0
	@touch $@

test-slow: setup-dev $(VENV)/mamba-ssm/.installed ## run the slow tests
	$(BIN)/python -m pytest -q -m 'slow and not faults'

test-faults: setup-dev ## kill, starve and disturb runs, and print a table of what happened; FAULTS_TABLE=FILE keeps it
	$(BIN)/python -m pytest -q tests/faults
	FAULTS_TABLE=$(FAULTS_TABLE:%=%.wandb) $(BIN)/python -m pytest -q -s -m faults tests/track

layers: setup-dev ## check who imports whom
	$(BIN)/python -m pytest -q tests/test_layers.py

lint: setup-dev ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup-dev ## ruff, in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: setup-dev ## mypy
	$(BIN)/mypy

clean: ## remove the environment and caches; runs and tables stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
