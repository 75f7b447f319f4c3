# Two commands for a newcomer: `make book` and `make test`. Plain `make` lists all.
PYTHON ?= python3
BIN := .venv/bin
BOOK := $(BIN)/jupyter-book build . -W -n --keep-going
# Two files at a time, by name, which puts the longest first; one thread each: threads
# that wait for each other burn a core.
FILES := -n 2 --dist loadfile --no-loadscope-reorder
test check: export OMP_NUM_THREADS = 1
test check: export OPENBLAS_NUM_THREADS = 1

.PHONY: help book test test-slow check bench records address clean
.DEFAULT_GOAL := help

help:
	@echo "make book       build the whole book, warnings as errors"
	@echo "make test       every test that is neither slow nor needs a GPU"
	@echo "make test-slow  the slow tests"
	@echo "make check      format, lint, types, stripped outputs, fast tests: before a push"
	@echo "make bench      benchmarks against peers, written to book/benchmarks.md"
	@echo "make records    which recorded runs are stale, and how to remake them"
	@echo "make address    set the repository's address everywhere: URL=https://github.com/..."
	@echo "make clean      remove what make built (the environment too)"

# The stamp holds the environment to the two files that define it.
.venv/.installed: requirements.txt pyproject.toml
	@echo "== environment in .venv (a few minutes, once)"
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and \
	  'Python 3.11 or newer is needed, this is %d.%d; set PYTHON=/path/to/it' % sys.version_info[:2])"
	@$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --progress-bar on -r requirements.txt
	@touch $@

book: .venv/.installed
	$(BOOK)
	@echo "== the book: file://$(CURDIR)/_build/html/index.html"

test: .venv/.installed
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  command -v google-chrome >/dev/null || \
	  echo "== no Chromium, so browser tests are skipped; on Debian: apt-get install chromium"
	$(BIN)/pytest $(FILES) -m "not slow and not gpu" --durations=5

test-slow: .venv/.installed
	$(BIN)/pytest -m slow

check: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/nbstripout --keep-id --verify book/*.ipynb
	$(BIN)/pytest -q $(FILES) -m "not slow and not gpu and not book and not browser"
	@echo "== ready to push"

bench: .venv/.installed
	$(BIN)/python -m tests.bench
	@echo "== the table: book/benchmarks.md"

records: .venv/.installed
	$(BIN)/python -m pkg.recipes check

# Needs no environment: a publisher may run it first of all.
address:
	$(PYTHON) book/_ext/set_address.py $(URL)

clean:
	rm -rf _build .venv .pytest_cache .hypothesis .mypy_cache .ruff_cache *.egg-info
