# The two commands that set everything up by themselves: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test check lint types layers format bench schema clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.installed  ## run a gateway with a loopback upstream and print what to paste
	@$(BIN)/gateway demo

test: $(VENV)/.installed-dev  ## run the tests
	@$(BIN)/pytest

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
