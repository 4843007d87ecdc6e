# Everything a developer runs. Needs make and Python >= 3.10; the rest is installed into .venv.
#   make demo   make test   make lint   make types   make test-jax   make test-slow   make clean
#   make test-torch installs torch, which may be large.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
INSTALL := $(RUN) pip install --disable-pip-version-check --quiet --constraint constraints.txt

# Two processes, each with files of its own: fixtures of a file are made once.
PYTEST := $(RUN) pytest --numprocesses=2 --dist=loadfile

export PIP_NO_INPUT := 1
export TF_CPP_MIN_LOG_LEVEL ?= 3

.DELETE_ON_ERROR:
.PHONY: demo test test-jax test-torch test-slow lint format types clean

demo: $(VENV)/installed
	$(VENV)/bin/tfpqn demo

test: $(VENV)/installed-dev
	@$(PYTEST)

test-jax: $(VENV)/installed-dev
	KERAS_BACKEND=jax $(PYTEST) tests/core tests/training/test_keras_loop.py

test-torch: $(VENV)/installed-dev
	$(INSTALL) --editable '.[torch]'
	KERAS_BACKEND=torch $(PYTEST) tests/core

# pytest leaves with 5 when it finds no test: no slow test is no failure.
test-slow: $(VENV)/installed-dev
	$(PYTEST) -m slow || [ $$? -eq 5 ]

lint: $(VENV)/installed-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .

format: $(VENV)/installed-dev
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

types: $(VENV)/installed-dev
	$(RUN) mypy

ifneq ($(wildcard benchmarks/search.py),)
.PHONY: bench
bench: $(VENV)/installed-dev
	$(VENV)/bin/python benchmarks/search.py
endif

clean:
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp files say what .venv holds; a second call installs nothing.
$(VENV)/created:
	@$(PYTHON) -c 'import sys; sys.exit("tfpqn needs Python 3.10 or newer" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: setup.py constraints.txt | $(VENV)/created
	$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-dev: setup.py constraints.txt | $(VENV)/created
	$(INSTALL) --editable '.[dev]'
	@touch $(VENV)/installed $@
