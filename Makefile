# `make` alone lists the commands. Each one sets up what it needs in .venv, once.

VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
# PyTorch without libraries for graphics cards, which are gigabytes
TORCH ?= torch==2.13.0+cpu
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-conversion test-training check lint types house format bench dashboard grid digits clean

help:  ## list every command
	@echo "Lithe: models for devices. Commands:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/base.stamp  ## classify handwritten digits with the two models that the package carries
	@$(BIN)/lithe demo

test: $(VENV)/test.stamp  ## run the fast tests (under 10 minutes on 2 cores)
	$(BIN)/python -m pytest -q -n $(JOBS) -m "not slow"

test-slow: $(VENV)/test.stamp $(VENV)/examples.stamp $(VENV)/bench.stamp  ## run the tests that take minutes
	$(BIN)/python -m pytest -q -n $(JOBS) -m slow

test-conversion: $(VENV)/test.stamp $(VENV)/conversion.stamp  ## run the tests of conversion, with each framework installed
	KERAS_BACKEND=jax $(BIN)/python -m pytest -q -n $(JOBS) tests/conversion tests/cli/test_convert.py tests/docs -k "conversion or convert"
	$(BIN)/python -m pytest -q -n $(JOBS) tests/passes/test_deflex.py tests/ops/test_flex.py  # judged by TensorFlow where it is installed
	for backend in torch tensorflow; do \
	  KERAS_BACKEND=$$backend $(BIN)/python -m pytest -q -n $(JOBS) tests/conversion/test_keras.py || exit; done

test-training: $(VENV)/test.stamp $(VENV)/conversion.stamp  ## train small networks, make them smaller, and see what they still know
	KERAS_BACKEND=jax $(BIN)/python -m pytest -q -n $(JOBS) tests/optimize/trained
	for backend in torch tensorflow; do \
	  KERAS_BACKEND=$$backend $(BIN)/python -m pytest -q -n $(JOBS) tests/optimize/trained/test_pruning.py \
	    tests/optimize/trained/test_clustering.py || exit; done

check: lint types house test  ## everything that a change must pass: lint, types, house rules, fast tests

lint: $(VENV)/check.stamp  ## ruff: mistakes and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/check.stamp  ## mypy on the package
	$(BIN)/mypy

house: $(VENV)/test.stamp  ## which room may import which, and no file over 500 lines
	$(BIN)/python -m pytest -q tests/test_imports.py tests/test_file_length.py

format: $(VENV)/check.stamp  ## put every file into the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/test.stamp $(VENV)/bench.stamp  ## measure against other runtimes into benchmarks/results/; MODELS=... some only
	$(BIN)/python benchmarks/compare.py $(MODELS)

dashboard: $(VENV)/base.stamp  ## benchmarks/dashboard.html: charts of all result files, a page without network
	$(BIN)/python -m lithe.bench.dashboard benchmarks/results benchmarks/dashboard.html

grid: $(VENV)/test.stamp  ## every operator in every type against the official runtime; ONLY=ADD or ONLY='ADD/int8q\#17'
	$(BIN)/python -m tests.grid --jobs $(JOBS) --document "$(ONLY)"

digits: $(VENV)/examples.stamp  ## train the demo's models again (a few seconds) and write them into the package
	$(BIN)/python examples/train_digits.py

clean:  ## remove .venv and the tools' caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

# --- set-up: one stamp for each group of packages --------------------------------------------------

$(VENV)/base.stamp: pyproject.toml
	@echo "setting up $(VENV) (once)"
	@python=; for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$p; break; fi; done; \
	if [ -z "$$python" ]; then echo "Python 3.11 or newer is needed: apt-get install python3"; exit 3; fi; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $$python -m venv --clear $(VENV) \
	  || { echo "python's venv module is needed: apt-get install python3-venv"; exit 3; }
	@$(PIP) -e .
	@touch $@

$(VENV)/conversion.stamp: $(VENV)/base.stamp
	@$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['conversion'], sep='\n')" \
	  > $(VENV)/conversion.txt
	@$(PIP) $(TORCH) --extra-index-url https://download.pytorch.org/whl/cpu
	@$(PIP) -r $(VENV)/conversion.txt
	@touch $@

# Dependency groups are read from pyproject.toml here, so that any pip will do.
$(VENV)/%.stamp: $(VENV)/base.stamp
	@$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['$*'], sep='\n')" \
	  > $(VENV)/$*.txt
	@$(PIP) -r $(VENV)/$*.txt
	@if [ "$*" = test ]; then $(MAKE) --silent $(VENV)/official.stamp \
	  || echo "note: the official runtime has no wheel for this Python; tests that compare with it are skipped"; fi
	@touch $@
