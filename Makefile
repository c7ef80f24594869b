# Every target does its own set-up: all that it needs is a Python of 3.11 or later (make PYTHON=/path/to/python chooses one).

BIN := .venv/bin
PYTEST_ARGS ?= -n 4 --dist worksteal
CHAOS_ARGS ?=

export PYTHON
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help setup setup-demo demo test check bench bench-quick profile chaos up down

help:
	@echo "make demo         run the order saga on real purchases, on servers of its own, through a crash of a worker"
	@echo "make test         run the tests; PYTEST_ARGS are for pytest (default: $(PYTEST_ARGS))"
	@echo "make check        lint, check formats, types and imports, build the documentation"
	@echo "make chaos        run the long tests, in which servers and workers die all the time (CHAOS_ARGS are for pytest), and the"
	@echo "                  tests of faults over RabbitMQ"
	@echo "make bench        measure the speed; bench-quick takes a few minutes"
	@echo "make profile      see where the time of durable hops goes, in a worker and in Postgres"
	@echo "make up           start Postgres and Valkey for development; they run until make down"
	@echo "make down         stop them"
	@echo "make setup        only install what the others need, into .venv"

setup:
	@deploy/setup.sh dev

setup-demo:
	@deploy/setup.sh servers

demo: setup-demo
	@$(BIN)/cnstra demo

test: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build

chaos: setup
	$(BIN)/python -m pytest -m chaos $(CHAOS_ARGS)
	CNSTRA_TESTS_BROKER=rabbitmq $(BIN)/python -m pytest $(PYTEST_ARGS) tests/fault

bench bench-quick: setup
	@test -d benchmarks || { echo "make $@: there is no folder benchmarks, so there is nothing to measure" >&2; exit 2; }
	$(BIN)/python -m benchmarks $(if $(filter bench-quick,$@),--quick)

profile: setup
	$(BIN)/python -m benchmarks.profiling

up: setup-demo
	@$(BIN)/cnstra up

down: setup-demo
	@$(BIN)/cnstra down
