# The two commands that set everything up by themselves: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test torture check lint types layers format bench schema clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.installed  ## run a gateway with a loopback upstream and print what to paste
	@$(BIN)/gateway demo

# Tests wait more than they work, so there are more processes than cores. A file's tests stay together, and the longest
# files come first. WORKERS=0: all in this one, one after another.
WORKERS ?= 4

test: $(VENV)/.installed-dev  ## run the tests
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# How long, by which seed, in which modes: make torture SECONDS=600 SEED=7 MODES=embedded
SECONDS ?= 1800
MODES ?= embedded,redis

torture: $(VENV)/.installed-dev  ## half an hour of every fault at once, then hundreds of kills; see docs/torture.md
	@PYTHONPATH=.:tests $(BIN)/python -m torture --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) --modes $(MODES)
	@GATEWAY_TORTURE=1 LEDGER_KILLS=200 $(BIN)/pytest -o faulthandler_timeout=0 tests/promises/test_p2_kill.py tests/ledger/test_ledger_kill.py

check: lint types layers  ## lint, types and import floors

lint: $(VENV)/.installed-dev  ## ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev  ## mypy, strict
	@$(BIN)/mypy

layers: $(VENV)/.installed-dev  ## imports point downward only
	@$(BIN)/lint-imports

format: $(VENV)/.installed-dev  ## put the code into shape
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed-dev  ## compare with other proxies on this machine; QUICK=1: in minutes, WRITE=docs: as a page
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(WRITE),--write $(WRITE))

schema: $(VENV)/.installed  ## write config/gateway.schema.json anew
	@$(BIN)/gateway schema > config/gateway.schema.json

clean:  ## remove what the commands above made
	rm -rf $(VENV) .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# The stamps hold the installation to pyproject.toml; a failed installation leaves none.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.x")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@
