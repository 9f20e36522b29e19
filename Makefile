# make up      install into .venv, then start everything; Ctrl-C stops it     make up ARGS="--port 8090"
# make test    lint, types, import order and all tests                        make test ARGS="tests/unit -k ports"
# make wheel-test   build the wheel, install it in a place of its own and use it
# make bench   the measurements of benchmarks/
# make lint    ruff, mypy and the import order alone
# make clean   remove what was installed and built; your data (.opsroom) stays

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?=
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

NEW_ENOUGH := import sys; sys.exit(not (sys.version_info >= (3, 11) and sys.implementation.name == "cpython"))
NO_PYTHON := Opsroom needs CPython 3.11 or newer and found none. Install it, or name it: make up PYTHON=/path/to/python3
NO_VENV := This Python cannot make a virtual environment. On Debian: apt install python3-venv
NO_DOCKER := No Docker Engine answers: tests marked `docker` are left out, agents are tested as sandboxed processes only.

.DEFAULT_GOAL := help
.PHONY: help up test wheel-test bench lint clean

help:
	@sed -n 's/^# //p' Makefile

up: $(VENV)/.for-up
	@exec $(BIN)/opsroom up $(ARGS)

test: lint
	@if $(BIN)/python -c 'import docker; docker.from_env(timeout=5).ping()' 2>/dev/null; then \
		$(BIN)/python -m pytest $(ARGS); \
	else \
		echo '$(NO_DOCKER)'; \
		$(BIN)/python -m pytest -m 'not docker' $(ARGS); \
		code=$$?; echo '$(NO_DOCKER)'; exit $$code; \
	fi

wheel-test: $(VENV)/.for-test
	@$(BIN)/python tests/wheel.py $(ARGS)

bench: $(VENV)/.for-test
	@$(BIN)/python -m benchmarks $(ARGS)

lint: $(VENV)/.for-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist deploy/web/dist deploy/web/build *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.for-up: pyproject.toml | $(BIN)/python
	@echo "Installing Opsroom into $(VENV); the first time takes a minute or two."
	@$(PIP) -e '.[embedded,agent]'
	@touch $@

$(VENV)/.for-test: pyproject.toml | $(BIN)/python
	@echo "Installing Opsroom and what its tests need into $(VENV)."
	@$(PIP) -e '.[embedded,agent,dev]'
	@touch $@ $(VENV)/.for-up

$(BIN)/python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
		if $$python -c '$(NEW_ENOUGH)' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo '$(NO_PYTHON)' >&2; exit 1; fi; \
	$$found -m venv $(VENV) || { rm -rf $(VENV); echo '$(NO_VENV)' >&2; exit 1; }
