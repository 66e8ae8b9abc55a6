# `make` lists the targets. Each one makes .venv when it is missing.
.DEFAULT_GOAL := help
PYTHON ?= python3
DRIVE ?=
DATA ?= $(or $(SIDECAST_DATA),../shared/data)
TRAIN_CONFIG ?= configs/train-disparity-mse-fast.yaml
THREADS ?= 1
FINISH_MINUTES ?= 15
BIN := .venv/bin

.PHONY: help demo test check bench train train-finish clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/.installed ## Encode, send and decode the synthetic drive, or a KITTI drive: make demo DRIVE=path
	$(if $(DRIVE),$(BIN)/sidecast run kitti --set drive='$(DRIVE)' --out out/demo,$(BIN)/sidecast run demo --out out/demo)

test: check ## Lint, types, import contracts, all tests
	SIDECAST_DATA='$(DATA)' $(BIN)/python -m pytest

check: .venv/.installed ## Lint, types and import contracts only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.installed ## Milliseconds and frames per second of the codec, by part
	$(BIN)/sidecast bench

train: .venv/.installed ## Train the default codec until Ctrl-C, resumably: make train DATA=folder THREADS=2
	nice -n 19 $(BIN)/sidecast train $(TRAIN_CONFIG) --data '$(DATA)' --threads $(THREADS)

train-finish: .venv/.installed ## Decay a copy of the training run, validate it, write its weights
	$(BIN)/sidecast train $(TRAIN_CONFIG) --data '$(DATA)' --threads $(THREADS) --finish --minutes $(FINISH_MINUTES)

clean: ## Remove what was built; the virtual environment and training state stay
	rm -rf build dist *.egg-info out .mypy_cache .ruff_cache .pytest_cache
