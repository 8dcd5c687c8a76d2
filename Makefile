# The two commands that set everything up by themselves: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test conformance torture check lint types layers docs format bench schema lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.installed  ## run a gateway with a loopback upstream and print what to paste
	@$(BIN)/gateway demo

# Tests wait more than they work, so there are more processes than cores. A file's tests stay together, and the longest
# files come first. WORKERS=0: all in this one, one after another.
WORKERS ?= 4

test: $(VENV)/.installed-dev  ## run the tests
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# Needs node and npm; the mock of the specification (@stdy/cli) is installed into .cache/ the first time.
conformance: $(VENV)/.installed-dev  ## the official clients over OpenAI's specification: directly against through the gateway
	@$(BIN)/pytest tests/conformance

# How long, by which seed, in which modes: make torture SECONDS=600 SEED=7 MODES=embedded
SECONDS ?= 1800
MODES ?= embedded,redis,fleet

torture: $(VENV)/.installed-dev  ## half an hour of every fault at once, then hundreds of kills; see docs/torture.md
	@PYTHONPATH=.:tests $(BIN)/python -m torture --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) --modes $(MODES)
	@GATEWAY_TORTURE=1 LEDGER_KILLS=200 $(BIN)/pytest -o faulthandler_timeout=0 tests/promises/test_p2_kill.py tests/usage/test_ledger_kill.py

check: lint types layers docs  ## lint, types, import floors, and the links of the docs

lint: $(VENV)/.installed-dev  ## ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev  ## mypy, strict
	@$(BIN)/mypy

layers: $(VENV)/.installed-dev  ## imports point downward only
	@$(BIN)/lint-imports

docs: $(VENV)/.installed-dev  ## build the site of docs/ into site/; a dead link fails
	@$(BIN)/zensical build --strict

format: $(VENV)/.installed-dev  ## put the code into shape
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed-dev  ## compare with other proxies on this machine; QUICK=1: in minutes, AGAINST=REV: with a revision of the gateway
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(AGAINST),--against $(AGAINST)) $(if $(WRITE),--write $(WRITE))

schema: $(VENV)/.installed  ## write what is made from the code anew: pages of docs/, gateway.schema.json and the board in config/
	@$(BIN)/gateway schema > config/gateway.schema.json
	@$(BIN)/python -m tools.reference
	@$(BIN)/python -m tools.board

# The newest of everything becomes what the two commands install; the tests tell whether that can be.
lock: $(VENV)/.installed-dev  ## write what requirements/ holds by hashes anew, with the newest versions
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --upgrade $(LOCK) --extra dev --extra postgres --extra mysql pyproject.toml -o requirements/lock.txt
	@printf 'hatchling\neditables\n' | $(BIN)/uv pip compile --quiet $(LOCK) -c requirements/lock.txt pyproject.toml - -o requirements/run.txt
	@echo hatchling | $(BIN)/uv pip compile --quiet $(LOCK) -c requirements/lock.txt - -o requirements/build.txt
	@$(BIN)/uv pip compile --quiet $(LOCK) -c requirements/lock.txt $(IMAGE) pyproject.toml -o requirements/image.txt

IMAGE := --extra postgres --extra mysql --extra jwt --extra otel --extra prices
LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -c requirements/held.txt

clean:  ## remove what the commands above made
	rm -rf $(VENV) .venv-* site .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# The stamps hold the installation to pyproject.toml and the lock; a failed installation leaves none. NEWEST=1: no lock.
$(VENV)/.installed: pyproject.toml requirements/run.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.x")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@requirements/install $(VENV) run
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements/lock.txt requirements/redis.txt
	@requirements/install $(VENV) dev
	@touch $@
