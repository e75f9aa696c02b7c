# homeport: the two commands are `make serve` and `make test`. Everything is installed into .venv from
# the hash-locked files in requirements/.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help serve test test-clients test-engines test-vllm test-containers test-engine-flags test-store test-litellm side-by-side test-mutations check venv venv-test format lock demo-eval bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "homeport needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "this Python has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements/runtime.txt requirements/build.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing homeport (first time: about half a minute)"
	@$(PIP) install --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.test: $(VENV)/.runtime requirements/test.txt requirements/check.txt
	@echo "installing what tests and checks need"
	@$(PIP) install --require-hashes -r requirements/test.txt -r requirements/check.txt
	@touch $@

venv: $(VENV)/.runtime ## create .venv with homeport in it
venv-test: $(VENV)/.test

serve: $(VENV)/.runtime ## serve the demo model (or ARGS="--model file.gguf") on 127.0.0.1:11899
	@exec $(BIN)/homeport serve $(ARGS)

test: $(VENV)/.test ## run all tests (ARGS="-k word" to choose)
	@$(BIN)/python -m pytest $(ARGS)

test-clients: $(VENV)/.test ## run all that the real clients do, the long scenarios too
	@$(BIN)/python -m pytest --slow-clients -m "claude_code or codex or opencode" $(ARGS)

test-vllm: $(VENV)/.test ## run the real vLLM, CPU build; installs 3.5 GB into a cache folder
	@$(BIN)/python -m pytest --vllm -m slow_vllm $(ARGS)

test-litellm: $(VENV)/.test ## run the real LiteLLM; installs it into a cache folder
	@$(BIN)/python -m pytest --litellm -m slow_litellm $(ARGS)

side-by-side: $(VENV)/.test ## write docs/litellm-side-by-side.md, with the real LiteLLM
	@$(BIN)/python -m tests.support.side_by_side > docs/.side-by-side.new
	@mv docs/.side-by-side.new docs/litellm-side-by-side.md

test-engine-flags: $(VENV)/.test ## compare what we know of the engines' flags with their packages
	@$(BIN)/python -m tests.engines.flag_tables $(ARGS)

test-engines: $(VENV)/.test ## run all that real engines do, the long scenarios and faults too
	@$(BIN)/python -m pytest --slow-engines -m "llamacpp or mlx or faults or slow_engines" $(ARGS)

test-store: $(VENV)/.test ## run all that databases do, 50 000 records through a crash too
	@$(BIN)/python -m pytest --slow-store tests/store $(ARGS)

test-containers: $(VENV)/.test ## run all that containers do, with a Docker that answers here
	@$(BIN)/python -m pytest --slow-containers --litellm -m docker $(ARGS)

test-mutations: $(VENV)/.test ## show that the tests of the translation fail when a rule is off
	@$(BIN)/python -m tests.wire.mutate $(ARGS)

check: $(VENV)/.test ## lint, types, import rules, locked requirements
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/check_tree.py

format: $(VENV)/.test ## format and sort imports
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

demo-eval: $(VENV)/.test ## score the demo model on held-out prompts
	@$(BIN)/python demo-model/eval.py $(ARGS)

bench: $(VENV)/.test ## measure homeport against nginx and LiteLLM (ARGS="--quick")
	@$(BIN)/python -m bench $(ARGS)

lock: ## rewrite requirements/*.txt (needs uv)
	scripts/lock

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
