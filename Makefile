# Everything a developer runs. Needs make and Python >= 3.10; the rest is installed into .venv.
#   make demo   make test   make test-all   make lint   make types   make package   make docs
#   make bench   make clean. make test-torch installs torch, which may be large.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
INSTALL := $(RUN) pip install --disable-pip-version-check --quiet --constraint constraints.txt

# Two processes, each with files of its own: fixtures of a file, or of several, are made once.
PYTEST := $(RUN) pytest --numprocesses=2 --dist=loadfile

export PIP_NO_INPUT := 1
export TF_CPP_MIN_LOG_LEVEL ?= 3

.DELETE_ON_ERROR:
.PHONY: demo test test-all test-jax test-torch lint format types package docs bench clean

demo: $(VENV)/installed
	$(VENV)/bin/tfpqn demo

test: $(VENV)/installed-dev
	@$(PYTEST)

JAX := KERAS_BACKEND=jax $(PYTEST) tests/training/test_loops.py
JAX_TESTS := conformance asymmetric_triplet_loss product_quantization_network vector_network retrieval

# Before a release: the long tests, those of research/, and the whole core on JAX.
test-all: $(VENV)/installed-dev
	$(PYTEST) -m "slow or not slow" tests research/tests
	$(JAX) tests/core

# All quantizers, the loss, networks and the loop on JAX.
test-jax: $(VENV)/installed-dev
	$(JAX) $(JAX_TESTS:%=tests/core/test_%.py)

test-torch: $(VENV)/installed-dev
	$(INSTALL) --editable '.[torch]'
	KERAS_BACKEND=torch $(PYTEST) tests/core

lint: $(VENV)/installed-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .

format: $(VENV)/installed-dev
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

types: $(VENV)/installed-dev
	$(RUN) mypy

# The wheel of the source archive, tried from another folder: which room imports which, and the
# whole road.
package: $(VENV)/installed-dev
	rm -rf build
	$(RUN) build --quiet --outdir build/dist .
	$(INSTALL) --no-deps --target build/site build/dist/*.whl
	@# import-linter needs Python 3.11.
	cd build && [ ! -x ../$(VENV)/bin/lint-imports ] || \
		PYTHONPATH=site ../$(VENV)/bin/lint-imports --no-cache --config ../pyproject.toml
	@# The files of the search page are in the wheel.
	cd build && PYTHONPATH=site ../$(VENV)/bin/python -c \
		"from tfpqn.export.page.routes import FILES, FOLDER; [(FOLDER / name).stat() for name in FILES]"
	cd build && PYTHONPATH=site ../$(VENV)/bin/python -m tfpqn demo --output demo

# The site, in build/docs: a warning or a dead link is an error. Its tools need Python 3.11.
docs: $(VENV)/installed-dev
	[ ! -x $(VENV)/bin/mkdocs ] || NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict

# Speed and recall beside other engines, some 20 minutes; writes docs/benchmarks.md, which says more.
#   make bench BENCH="--data-dir DIR --scann-python ENV/bin/python"
bench: $(VENV)/installed-dev
	$(VENV)/bin/python benchmarks/bench.py $(BENCH)

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
