# Works from a clean clone with make and Python; everything else is set up in .venv at the first run.
PYTHON ?= python3
JOBS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed
PYTEST := $(BIN)/pytest
# Checks every annotated shape and type at each call, at twice the time; it cannot wrap what is compiled.
TYPED := --jaxtyping-packages=transferfn,beartype.beartype

.DEFAULT_GOAL := help
.PHONY: help setup demo test laws types lint format clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12 chooses the interpreter that .venv is made with, JOBS=4 the number of test processes."

setup: $(STAMP) ## Create .venv and install the package for development

demo: $(STAMP) ## Train a small model on sequential MNIST and stream it (about 5 minutes)
	OMP_WAIT_POLICY=passive $(BIN)/transferfn demo # spinning threads would stall it on a busy machine

test: lint ## Lint, check types and layers, run the tests
	$(PYTEST) -n $(JOBS)

laws: $(STAMP) ## Try the laws on every combination of options
	$(PYTEST) -n $(JOBS) -m "exhaustive and not compile" $(TYPED) tests/laws
	$(PYTEST) -n $(JOBS) -m "exhaustive and compile" tests/laws

types: $(STAMP) ## Run the tests with the shapes and types of every call checked, at twice the time
	$(PYTEST) -n $(JOBS) -m "not compile and not exhaustive" $(TYPED)

lint: $(STAMP) ## Check style, types and the layering of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

format: $(STAMP) ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove .venv, caches and build products
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { \
	  echo "transferfn is developed on Python 3.11 to 3.14, but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another interpreter, for example: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up .venv (a few minutes the first time)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
