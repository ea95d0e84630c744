# `make demo` and `make test` do all the set-up themselves; PYTHON=/path/to/python3.12 chooses the interpreter.
.DEFAULT_GOAL := help
.PHONY: help demo test test-long real-clients bench check schemas catalog conformance format clean setup-demo setup-dev

# Any Python can run the set-up script, which then chooses.
BOOTSTRAP := $(shell command -v python3 || command -v "$(PYTHON)" || echo python3)
export PYTHON
# Processes that share the tests; each starts a Triton server of its own. Twice as many as two cores, because the tests
# wait half of the time, for processes that start and stop. WORKERS=0 runs them in one, as a debugger wants it.
WORKERS ?= 4
# Who has finished takes tests over from who has not. Compiled files are kept even where the environment says not to: the
# tests start some hundred processes, and each would compile all anew.
PYTEST = PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pytest -n $(WORKERS) --dist worksteal

help: ## Show this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

demo: setup-demo ## Run tasks on a real Triton server, started for the purpose, or on a fake where none runs
	@.venv/bin/worker-adapter demo

test: setup-dev ## Run the tests, the real Triton server included; TESTS="tests/adapter_api -x" narrows it
	@$(PYTEST) -m "not long" $(TESTS)

test-long: setup-dev ## Run the tests that take long by their nature, which `make test` leaves out
	@$(PYTEST) -m long $(TESTS)

real-clients: setup-dev ## Install the clients of others that long tests run, outside the checkout: 7 GB; CLIENTS="llm smg" some
	@.venv/bin/python scripts/real_clients.py $(CLIENTS)

bench: setup-dev ## Run the benchmarks, some ten minutes, and write BENCHMARKS.md; BENCH="--scale 1 --smg PROGRAM" says how
	@.venv/bin/python scripts/bench.py $(BENCH)

check: setup-dev ## Check format, lint, types, import layering, specs, generated files and documentation
	@.venv/bin/python scripts/check.py

schemas: setup-dev ## Regenerate the JSON Schemas of the contract and of conformance reports
	@.venv/bin/python -m adapter_api.schemas
	@.venv/bin/python -m conformance_tests.report

catalog: setup-dev ## Regenerate what is made from specs/ and the code: catalog.json, specs/awaiting.txt, docs/ways.md, docs/openai.md, docs/tool-calls.md
	@.venv/bin/python -m conformance_tests.catalog --write --specs specs
	@.venv/bin/python scripts/check_specs.py --write
	@.venv/bin/python scripts/ways.py
	@.venv/bin/python scripts/openai_fields.py
	@.venv/bin/python scripts/tool_grammars.py

conformance: setup-dev ## Run the conformance suite on our adapters, and bring docs/conformance.md up to date
	@.venv/bin/python scripts/conformance.py

format: setup-dev ## Format the code and mend what the linter can mend
	@.venv/bin/ruff check --quiet --fix . ; .venv/bin/ruff format --quiet .

clean: ## Remove .venv and everything generated that is not committed
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis reports
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup-demo:
	@"$(BOOTSTRAP)" scripts/setup.py demo

setup-dev:
	@"$(BOOTSTRAP)" scripts/setup.py dev
