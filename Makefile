# Every target makes what it needs: a fresh clone needs only Python 3.10+ and a compiler.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out

.PHONY: demo test test-slow check lint bench faults clean

# $(VENV)/.demo and $(VENV)/.dev are stamps: dependencies are installed again only when pyproject.toml changes.
$(VENV)/.demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[demo,export]'
	touch $@

# The reference forwards of the tests want PyTorch. 2.13.0 is named so that a machine with a CPU build at hand takes it.
$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet 'torch==2.13.0'
	$(BIN)/python -m pip install --quiet --editable '.[all,dev]'
	touch $@

demo: $(VENV)/.demo
	$(BIN)/edgeface assets fetch
	$(BIN)/edgeface demo --output $(OUT)/demo

test: $(VENV)/.dev
	-$(BIN)/edgeface assets fetch
	$(BIN)/pytest

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: $(VENV)/.dev
	$(BIN)/pytest tests/benchmarks -m slow -s

# The proofs that take minutes to hours: kills, power cuts, tampers, a million inputs.
faults: $(VENV)/.dev
	$(BIN)/pytest tests/faults -m slow -s

clean:
	rm -rf $(VENV) $(OUT) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
