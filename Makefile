# Every target works as the first command in a fresh clone, given Python 3.11+, git and make:
# what it needs is installed into .venv first.

# The Python that .venv is made with; empty means the first that is new enough. `make clean` before
# changing it.
PYTHON ?=
# Passed on to pytest and to the benchmarks: make test ARGS='-k vary -x'
ARGS ?=
# What `make run` fetches; empty means the demo's own.
URL ?=

# Programs are started as `python -m`, not by their scripts in .venv/bin: those name the interpreter
# by an absolute path, and would run the original's when the checkout is a copy.
VENV := .venv
PY := $(VENV)/bin/python

# They say "installed": what the command needs, and what its development does. They carry a checksum
# of the checkout's path, since a copied .venv still points at the sources it was made for, and then
# tests the wrong ones.
HERE := $(shell pwd | cksum | cut -d ' ' -f 1)
RUNS := $(VENV)/.runs-$(HERE)
INSTALLED := $(VENV)/.installed-$(HERE)

# The tests start hundreds of interpreters: none of them is to compile everything anew, as they would
# where PYTHONDONTWRITEBYTECODE is set. Bytecode is kept where it litters no folder of sources.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache

# mypy fails on a directory that isn't there.
TYPED := $(wildcard src tests benchmarks scripts)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test soak lowest check lint types format docs conformance compat bench coverage clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(RUNS) ## the demo (URL=...)
	$(PY) -m stillfresh.cli.demo $(if $(URL),'$(URL)')

# Three at once, so that tests which wait for a disk or a process don't wait for each other.
test: $(INSTALLED) ## the tests (ARGS=...)
	@sh scripts/get-redis
	$(PY) -m pytest -n 3 $(ARGS)

soak: $(INSTALLED) ## all tests of all tables, and every fault for minutes (ARGS=...)
	@sh scripts/get-redis
	$(PY) -m pytest -n 2 --soak --timeout 600 $(ARGS)

# They lie before what is installed. pytest would load the plugin of a platformdirs that isn't there.
lowest: $(INSTALLED) ## the tests with the oldest libraries that pyproject.toml allows (ARGS=...)
	@sh scripts/get-redis
	rm -rf build/lowest
	$(PY) -m pip install --quiet --no-deps --target build/lowest $$($(PY) scripts/lowest.py)
	PYTHONPATH=build/lowest $(PY) -m pytest -n 3 -p no:platformdirs $(ARGS)

check: lint types test ## all that has to pass before a commit

lint: $(INSTALLED) ## formatting, lint rules, import contracts
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) $(VENV)/bin/lint-imports

types: $(INSTALLED) ## mypy, strict
	$(PY) -m mypy $(TYPED)

format: $(INSTALLED) ## format, and fix what ruff can fix
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

docs: $(INSTALLED) ## write docs/decisions.md, and the help texts into docs/command.md
	$(PY) scripts/decisions.py > docs/decisions.md
	$(PY) scripts/command.py > docs/command.md.new
	mv docs/command.md.new docs/command.md

# Fetches the suite with npm, once.
conformance: $(INSTALLED) ## the public HTTP cache test suite, which needs Node.js (ARGS=...)
	$(PY) -m tests.conformance $(ARGS)

# Fetches the source distribution with pip, once.
compat: $(INSTALLED) ## CacheControl's own tests on our caches (ARGS=...)
	$(PY) -m tests.compat $(ARGS)

bench: $(INSTALLED) ## the benchmarks (ARGS=...)
	@sh scripts/get-redis
	$(PY) -m benchmarks $(ARGS)

# In one process: the lines come from its children as well, and are combined here.
coverage: $(INSTALLED) ## the tests, and which lines they leave out (ARGS=...)
	@sh scripts/get-redis
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest $(ARGS)
	$(PY) -m coverage combine -q
	$(PY) -m coverage report

clean: ## remove .venv and all that the tools left behind
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.*
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last, so that an installation which was cut short is done again.
$(RUNS): pyproject.toml scripts/make-venv
	@echo 'installing into $(VENV)'
	@PYTHON='$(PYTHON)' sh scripts/make-venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[cli]'
	@touch $@

# pip learned --group in 25.1; a newer one is left alone.
$(INSTALLED): $(RUNS)
	@echo 'installing what the tests and tools need'
	@$(PY) -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	@$(PY) -m pip install --quiet --group dev --editable '.[all]'
	@touch $@
