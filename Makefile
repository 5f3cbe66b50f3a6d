# Every command makes the environment it needs, or reuses it: see scripts/setup_environment.py.
#   make demo PYTHON=python3.12                   another Python
#   make demo DEMO="--out my_run --features 200"  other options of the demo
#   make test TESTS="tests/metrics -k interval"   some of the tests
#   make bench BENCH="--quick"                    a smoke run of the benchmarks

PYTHON ?= python3
DEMO ?= --out demo_run
TESTS ?=
BENCH ?=
SOAK ?= tests/features/test_resume.py tests/e2e/test_chaos.py tests/e2e/test_killed.py tests/e2e/test_interruptions.py tests/e2e/test_same_bytes.py tests/e2e/test_plan.py tests/e2e/test_soak.py tests/e2e/test_mutations.py tests/e2e/test_small_real_model.py \
	tests/prompting/test_reading_properties.py

RUN_ENV := .venv
TEST_ENV := .venv-test

.PHONY: help demo test lint format types check setup setup-test bench bench-peer-setup soak faults clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

demo: setup ## explain and score features of the embedded model; ends with a table and a report in demo_run/
	@$(RUN_ENV)/bin/sae-auto-interp demo $(DEMO)

test: setup-test ## run the tests (offline, no GPU needed)
	@$(TEST_ENV)/bin/python -m pytest $(TESTS)

lint: setup-test ## check style and format, changing nothing
	@$(TEST_ENV)/bin/ruff check .
	@$(TEST_ENV)/bin/ruff format --check .

format: setup-test ## put the code into the project's format, and fix what can be fixed safely
	@$(TEST_ENV)/bin/ruff check --fix --quiet . || true
	@$(TEST_ENV)/bin/ruff format .

types: setup-test ## check the types (strict in src/)
	@$(TEST_ENV)/bin/pyright --pythonpath $(TEST_ENV)/bin/python

check: lint types test ## everything that must pass before a change goes in

setup: ## make or update .venv, with what running needs
	@$(PYTHON) scripts/setup_environment.py $(RUN_ENV)

setup-test: ## make or update .venv-test, with what testing and developing need
	@$(PYTHON) scripts/setup_environment.py $(TEST_ENV) --extras test,dev

soak: setup-test ## kill at hundreds of moments, fill the disk, let the network fail, damage 1,000 files, fuzz replies, check annotations in all tests; two hours
	@$(TEST_ENV)/bin/python -m pip install -q --constraint constraints.txt atheris
	@SAE_AUTO_INTERP_SOAK=1 $(TEST_ENV)/bin/python -m pytest -s -o faulthandler_timeout=0 $(SOAK)
	@SAE_AUTO_INTERP_CHECK_ANNOTATIONS=1 $(TEST_ENV)/bin/python -m pytest -q -n auto --dist loadfile

faults: setup-test ## thirty deliberate faults, one at a time: does a test of CI notice each?
	@$(TEST_ENV)/bin/python scripts/deliberate_faults.py

bench: setup-test ## measure against the bare limit and the peer, some hours; see docs/benchmarks.md
	@$(TEST_ENV)/bin/python -m benchmarks.run_all $(BENCH)

bench-peer-setup: setup-test ## make .venv-peer, with the peer in it
	@$(TEST_ENV)/bin/python -m benchmarks.setup_peer

clean: ## remove what commands here made, but for the environments
	@rm -rf demo_run build dist .pytest_cache .ruff_cache .hypothesis
	@find src tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
