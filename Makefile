# The two commands of the README are `make demo` and `make test`; each does its own set-up.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= $(shell echo $$((($$(nproc) * 3 + 1) / 2)))# tests of networks and signals wait half of their time
PYTEST := ./.ci/pytest-steady $(BIN)/pytest

.PHONY: help venv system system-tests demo test lint unit bench pictures clean

help:
	@echo "make demo   set up, start a two-node lab, move real programs, compare their results (a minute)"
	@echo "make test   set up, check the sources, run every test"
	@echo "make venv   set up only: the tools are then in $(BIN)"
	@echo "make lint   ruff, mypy --strict, import contracts"
	@echo "make bench  the figures of tests/bench, as ratios; writes tests/bench/RESULTS.md"
	@echo "make pictures  the screens that README.md shows"
	@echo "make clean  remove what these made"

system:
	@./.ci/system-packages $(PYTHON)

system-tests:
	@./.ci/system-packages $(PYTHON) tests

venv: $(STAMP)

$(STAMP): pyproject.toml | system
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the Python packages into $(VENV) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]' >$(VENV)/install.log 2>&1 \
	  || { cat $(VENV)/install.log >&2; exit 1; }
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m omtools.lab.demo

test: system-tests lint unit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

# The files in which some test has this mark: to collect all the others would take longer than some of them run.
marked = $$(grep -rlE --include='*.py' 'mark\.$(1)\b' tests)

# First those that work, then those that sleep and look at the clock, then two labs of emulated machines side by side
# (each keeps one processor busy), then those that want all for themselves. What fails among others may try again alone.
unit: $(STAMP) | system-tests
	$(PYTEST) -n $(JOBS) -m 'not timing and not alone and not machines'
	$(PYTEST) -n $(JOBS) -m timing $(call marked,timing)
	$(PYTEST) -n 2 --dist loadfile -m machines $(call marked,machines)
	$(PYTEST) -m alone $(call marked,alone)

bench: $(STAMP)
	$(BIN)/python tests/bench/engine_figures.py --write
	$(BIN)/python tests/bench/omfs_figures.py --write
	$(BIN)/python tests/bench/dfsa_figures.py --write
	$(BIN)/python tests/bench/agent_figures.py
	$(BIN)/python tests/bench/cluster_figures.py
	if [ "$$(id -u)" = 0 ]; then $(BIN)/python tests/bench/makespan_figures.py --reckon-alone --write; fi
	if [ "$$(id -u)" = 0 ]; then $(BIN)/python tests/bench/memory_figures.py --write; fi
	if [ "$$(id -u)" = 0 ]; then $(BIN)/python tests/bench/move_figures.py --write; fi
	$(BIN)/python tests/bench/workshop_figures.py --write
	$(BIN)/python tests/bench/screen_figures.py

pictures: $(STAMP)
	$(BIN)/python -m omtui.screenshots --readme docs/pictures

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
