# make serve: a running service on http://127.0.0.1:8000      make test: linters, types, the fast tests
PORT   ?= 8000
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: install serve lint test test-slow test-all soak load benchmark dist clean

install: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing torch and others into $(VENV), once: this takes some minutes and prints nothing"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[serve,client,video,train,benchmark]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

serve: install
	$(BIN)/creps serve --port $(PORT)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy --num-workers 2

# Processes share the cores, so each computes with one thread. Compiled modules are kept: many processes import them.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 4 --dist loadgroup --durations 25

test: lint
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.installed-test
	$(PYTEST) -m slow

test-all: lint
	$(PYTEST) --hypothesis-profile all

soak: $(VENV)/.installed-test
	$(BIN)/python -m tests.service.jobs.soak

load: $(VENV)/.installed-test
	$(BIN)/python -m tests.service.load

benchmark: install
	$(BIN)/creps benchmark render

# What a release publishes: wheel, sdist, the SBOM of all that make install installs, and their checksums.
dist: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[release]'
	rm -rf dist
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt SOURCE_DATE_EPOCH=$(shell git log -1 --format=%ct) $(BIN)/python -m build
	$(BIN)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible \
	    --output-file dist/creps-serve.cdx.json
	cd dist && sha256sum -- * > SHA256SUMS

clean:
	rm -rf $(VENV) dist .import_linter_cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis
