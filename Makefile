# `make demo` and `make test` are all the set-up there is: they make .venv,
# install the pinned packages, generate the protobuf stubs, and run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BUF := $(VENV)/buf/node_modules/.bin/buf
BUF_VERSION := 1.75.0

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test faults simulate fuzz check lint-protos clean help

help:  ## List the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(INSTALLED): pyproject.toml constraints.txt protos/codegen.py $(wildcard protos/elicense/v1/*.proto)
	@echo "Installing into $(VENV) (once; about a minute) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## Run registry and three cities on loopback and show the main job end to end.
	@$(BIN)/elicense demo $(DEMO_ARGS)

test: $(INSTALLED)  ## Run every test; PostgreSQL comes with the test dependencies.
	@# Tests start some hundred processes, which would each compile the code anew where none may keep it.
	@$(BIN)/python -m compileall -q elicense registry city_node buf protos tests
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder $(PYTEST_ARGS)

faults: $(INSTALLED)  ## Break everything that can break, a thousand kills among it, and write the table (FAULTS_ARGS=--help).
	@$(BIN)/python -m tests.faults.campaign $(FAULTS_ARGS)

simulate: $(INSTALLED)  ## Run registry and cities through SEEDS simulated disasters from FIRST on, each of which replays exactly.
	@$(BIN)/python -m tests.simulation.run $(or $(SEEDS),1000) --first $(or $(FIRST),0) $(if $(JOBS),--jobs $(JOBS))

fuzz: $(INSTALLED)  ## Throw EXAMPLES random inputs at every parser, and requests at every method of running nodes; minutes.
	@ELICENSE_FUZZ=$(or $(EXAMPLES),5000) $(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 4 tests/unit/fuzz \
	  tests/integration/city/test_wire_fuzz.py tests/integration/registry/test_wire_fuzz.py

check: $(INSTALLED) lint-protos  ## Lint, type-check and verify the import contracts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-protos: $(INSTALLED)  ## Lint the protos with buf, where node is present.
	@if ! command -v npm >/dev/null 2>&1; then echo "buf lint skipped: node is not installed"; \
	elif ! { test -x $(BUF) || { mkdir -p $(VENV)/buf && npm install --silent --no-fund --no-audit --fetch-retries=1 \
	  --prefix $(VENV)/buf @bufbuild/buf@$(BUF_VERSION) >/dev/null; }; }; then echo "buf lint skipped: buf can not be installed"; \
	else $(BIN)/python -m protos.codegen describe $(VENV)/protos.binpb && \
	  $(BUF) lint $(VENV)/protos.binpb --config protos/buf.yaml && echo "buf lint: clean"; fi

clean:  ## Remove everything that was built or generated.
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache buf
	find . -name '*_pb2*.py*' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
