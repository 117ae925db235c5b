# make serve: a running service on http://127.0.0.1:8000      make test: linters, types, tests
PORT   ?= 8000
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: install serve test lint soak load benchmark clean

install: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[serve,train,benchmark]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

serve: install
	$(BIN)/creps serve --port $(PORT)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What computes is shared out among the cores, one thread each. What starts processes, servers and browsers has them all.
PROCESSES := tests/model/training/test_processes.py
test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto tests/kernels tests/model --ignore=$(PROCESSES)
	$(BIN)/pytest $(PROCESSES)
	$(BIN)/pytest --ignore=tests/kernels --ignore=tests/model

soak: $(VENV)/.installed-test
	$(BIN)/python -m tests.service.jobs.soak

load: $(VENV)/.installed-test
	$(BIN)/python -m tests.service.load

benchmark: install
	$(BIN)/creps benchmark render

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis
