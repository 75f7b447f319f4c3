# Two commands for a newcomer: `make book` and `make test`. Plain `make` lists all.
PYTHON ?= python3
BIN := .venv/bin
BOOK := $(BIN)/jupyter-book build . -W -n --keep-going

.PHONY: help book test test-slow check bench records clean
.DEFAULT_GOAL := help

help:
	@echo "make book       build the whole book, warnings as errors"
	@echo "make test       every test that is neither slow nor needs a GPU"
	@echo "make test-slow  the slow tests"
	@echo "make check      format, lint, types, stripped outputs, fast tests: before a push"
	@echo "make bench      benchmarks against peers, written to book/benchmarks.md"
	@echo "make records    which recorded runs are stale, and how to remake them"
	@echo "make clean      remove what make built (the environment too)"

# The stamp holds the environment to the two files that define it.
.venv/.installed: requirements.txt pyproject.toml
	@echo "== environment in .venv (a few minutes, once)"
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; set PYTHON=/path/to/it')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --progress-bar on -r requirements.txt
	@touch $@

book: .venv/.installed
	$(BOOK)
	@echo "== the book: file://$(CURDIR)/_build/html/index.html"

test: .venv/.installed
	$(BIN)/pytest -m "not slow and not gpu" --durations=5
	@echo "== all tests passed"

test-slow: .venv/.installed
	$(BIN)/pytest -m slow

check: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify book/*.ipynb
	$(BIN)/pytest -q -m "not slow and not gpu and not book and not browser"
	@echo "== ready to push"

bench: .venv/.installed
	$(BIN)/python -m tests.bench
	@echo "== the table: book/benchmarks.md"

records: .venv/.installed
	$(BIN)/python -m pkg.recipes check

clean:
	rm -rf _build .venv .pytest_cache .hypothesis .mypy_cache .ruff_cache *.egg-info
