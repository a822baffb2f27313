# Every target needs only make, bash and Python >= 3.11; the first one that runs installs the rest into .venv.

PYTHON ?= python3
TORCH ?= auto
KILLS ?= 50
SOAK_MINUTES ?= 30
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow torture soak lint bench bench-peers docs screenshots up clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install ferflow, once (TORCH=cpu or default: PyTorch's wheels; PYTHON=python3.12)
	@echo "ferflow is installed in $(VENV)."

demo: $(STAMP) ## synthetic clips -> faces -> search -> champion -> scored folder, in ./workspace
	@$(BIN)/ferflow demo

test: $(STAMP) ## the tests that take seconds
	@$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist loadfile

test-slow: $(STAMP) ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow -n auto --maxprocesses 2 --dist loadfile

torture: $(STAMP) ## preprocessing and a search of 12 trials killed at KILLS random moments (50), to end as if they had not been; then soak
	@FERFLOW_KILLS=$(KILLS) $(BIN)/python -m pytest -m slow -k random_moments tests/preprocess tests/tracking
	@$(MAKE) --no-print-directory soak

soak: $(STAMP) ## the servers under load for SOAK_MINUTES (30) while their processes are killed; prints what it counted
	@SOAK_MINUTES=$(SOAK_MINUTES) $(BIN)/python -m pytest -s tests/flows/soak.py

lint: $(STAMP) ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: $(STAMP) ## measure; prints, and writes benchmarks/results.md
	@$(BIN)/python -m benchmarks

bench-peers: $(STAMP) ## measure beside the package fer, in an environment of its own under build/ (TensorFlow: some 2 GB)
	@$(BIN)/python -m benchmarks.peers

docs: $(STAMP) ## the documentation site, in build/site; warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet && echo "Open build/site/index.html."

screenshots: $(STAMP) ## the pictures of the documentation, from real pages in chromium (WORKSPACE=DIR: of an earlier run)
	@$(BIN)/python -m docs.screenshots $(WORKSPACE)

up: $(STAMP) ## MLflow, Prefect and the served flows on this machine, until Ctrl-C
	@$(BIN)/ferflow up

clean: ## remove .venv and caches; the workspace stays
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@set -euo pipefail; started=$$SECONDS; python=; \
	for name in "$(PYTHON)" python3.13 python3.12 python3.11; do \
	  if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "ferflow needs Python 3.11 or newer, but $(PYTHON) is $$("$(PYTHON)" --version 2>/dev/null || echo missing);" \
	    "install one (Debian, Ubuntu: apt install python3 python3-venv) or name it: make setup PYTHON=/path/to/python3.12" >&2; \
	  exit 1; \
	fi; \
	if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
	  echo "$$python cannot make virtual environments;" \
	    "install its venv package (Debian, Ubuntu: apt install python3-venv) and run make again" >&2; \
	  exit 1; \
	fi; \
	echo "Installing ferflow into $(VENV) with $$("$$python" --version); a few minutes, mostly PyTorch's download ..."; \
	"$$python" -m venv $(VENV); \
	pip=("$(BIN)/python" -m pip install -q --disable-pip-version-check -c constraints.txt); \
	torch="$(TORCH)"; index=https://download.pytorch.org/whl/cpu; \
	if [ "$$torch" = auto ] && [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null \
	  && "$$python" -c "import urllib.request as u; u.urlopen('$$index/torch/', timeout=5)" 2>/dev/null; then \
	  torch=cpu; echo "There is no NVIDIA GPU here: PyTorch's CPU wheels are taken (TORCH=default: with CUDA)."; \
	fi; \
	if [ "$$torch" = cpu ]; then "$${pip[@]}" torch torchvision --index-url $$index; fi; \
	"$${pip[@]}" -e '.[dev]'; \
	"$(BIN)/ferflow" weights fetch fer2013 face-landmarks blazeface >/dev/null || echo "All else works without them."; \
	touch $@; \
	echo "Installed: $$(du -sh $(VENV) | cut -f1) in $(VENV), $$((SECONDS - started)) s."
