# make demo    set everything up, run the tour notebook, say what it did and where to look
# make test    set everything up (servers and browser too), run every test
# make lab     JupyterLab on notebooks/
# make bench   side by side with peers
#
# Every target sets up what it needs; a stamp makes the second time quick. Choose a Python with `make PYTHON=python3.12 …`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --retries 8 --timeout 60
STAMPS := $(VENV)/stamps
# Programs the tests of today use; one that is missing is installed, or named.
SYSTEM := redis-server rabbitmq-server chromium

# In a container one often is root, and JupyterLab then wants to be told that this is meant.
ALLOW_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# The gate is thorough; `make unit HYPOTHESIS_PROFILE=fast` is not.
export HYPOTHESIS_PROFILE ?= ci
# Nothing from the user's own set-up decides what is tested.
export PYTHONNOUSERSITE := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lab bench setup front system kernels lint types contracts vitest unit servers browser notebooks constraints clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: setup  ## run the tour notebook on real input and say what it did
	@$(BIN)/python scripts/demo.py

test: setup system kernels lint types contracts vitest  ## everything: style, types, contracts, front end, Python, servers, browser, notebooks
	$(BIN)/python -m pytest -m "not browser" --no-skips
	$(BIN)/python -m pytest -m browser --no-skips  # apart: Playwright keeps an event loop running
	$(MAKE) notebooks

lab: setup  ## open JupyterLab on notebooks/ (LAB_ARGS=… goes on to it)
	$(BIN)/jupyter lab --notebook-dir=notebooks $(ALLOW_ROOT) $(LAB_ARGS)

bench: setup $(STAMPS)/bench  ## measure, side by side with peers (BENCH_ARGS=… goes on to it)
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

# ---------------------------------------------------------------------------------------------------------------- set-up

setup: $(STAMPS)/dev front  ## the virtual environment and the front end

$(STAMPS)/venv: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.12"; exit 1; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --constraint constraints.txt --upgrade pip
	@mkdir -p $(STAMPS) && touch $@

# hatchling comes first, pinned, and builds the package without an isolated environment of unpinned versions.
$(STAMPS)/dev: $(STAMPS)/venv pyproject.toml hatch_build.py widgets/node_modules/.package-lock.json
	@echo "installing the package and what its tests need"
	@$(PIP) install --constraint constraints.txt --group build
	@$(PIP) install --constraint constraints.txt --no-build-isolation --editable . --group dev
	@touch $@

$(STAMPS)/bench: $(STAMPS)/dev
	@echo "installing the peers"
	@$(PIP) install --constraint constraints.txt --group bench
	@touch $@

widgets/node_modules/.package-lock.json: widgets/package.json widgets/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: install Node.js 20 or newer"; exit 1; }
	@echo "installing what the front end is built and tested with"
	@cd widgets && npm ci --loglevel=error --fetch-retries=5
	@touch $@

front: $(STAMPS)/dev  ## build the front end, if its sources changed
	@$(BIN)/python hatch_build.py

system:  ## servers and browser, through apt-get where it may
	@sh scripts/ensure_system.sh $(SYSTEM)

# Kernels of other versions, for the browser tests: each in a folder of its own that comes first on its path; the rest
# of what it needs is that of the virtual environment.
KERNELS := $(patsubst tests/browser/kernels/%.txt,build/kernels/%/.installed,$(wildcard tests/browser/kernels/*.txt))

kernels: $(KERNELS)  ## older ipykernels beside the one of the virtual environment

build/kernels/%/.installed: tests/browser/kernels/%.txt | $(STAMPS)/dev
	@echo "installing $*, for the browser tests"
	@rm -rf $(@D)
	@$(PIP) install --target $(@D) --no-deps --requirement $<
	@touch $@

# ---------------------------------------------------------------------------------------------------- the parts of `test`

lint: $(STAMPS)/dev  ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMPS)/dev  ## mypy --strict, and tsc for the front end
	$(BIN)/mypy
	cd widgets && npm run --silent types

contracts: $(STAMPS)/dev  ## who may import whom
	$(BIN)/lint-imports

vitest: $(STAMPS)/dev  ## the front end's tests
	cd widgets && npm run --silent test -- --testTimeout=60000 --hookTimeout=60000

unit: setup  ## the tests that need nothing but Python
	$(BIN)/python -m pytest

servers: setup system  ## the differential tests with Redis and real Celery
	$(BIN)/python -m pytest -m servers

browser: setup system kernels  ## the tests in JupyterLab, Notebook 7 and Chromium
	$(BIN)/python -m pytest -m browser

notebooks: setup  ## every notebook, executed and compared (nbval), and executed from top to bottom (nbmake)
	$(BIN)/python -m pytest --nbval notebooks
	$(BIN)/python -m pytest --nbmake -n 2 --timeout=600 notebooks  # each is one test

# ------------------------------------------------------------------------------------------------------------ housekeeping

constraints:  ## choose and pin the newest versions of everything that is installed
	@rm -rf build/fresh && $(PYTHON) -m venv build/fresh
	@build/fresh/bin/python -m pip install --quiet --upgrade pip
	@build/fresh/bin/python -m pip install --quiet '.[pydantic]' --group dev --group bench --group docs
	@build/fresh/bin/python -m pip --version | sed 's/^pip \([^ ]*\).*/pip==\1/' > build/pip.txt
	@{ sed -n '/^#/p' constraints.txt; \
	   { cat build/pip.txt; build/fresh/bin/python -m pip freeze --exclude nbcanvas; } | LC_ALL=C sort -f; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt && rm -rf build/fresh build/pip.txt

clean:  ## forget everything that can be made again
	rm -rf $(VENV) build dist widgets/node_modules nbcanvas/notebook/static
	rm -rf .benchmarks .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
