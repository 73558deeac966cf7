VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DEMO := demo
DEMO_ROWS ?= 60000

# What is installed follows from setup.cfg and constraints.txt; one stamp for each extra.
RUNTIME := $(VENV)/.installed-report
TESTING := $(VENV)/.installed-test
CHECKING := $(VENV)/.installed-dev
DOCUMENTING := $(VENV)/.installed-docs
COMPARING := $(VENV)/.installed-forests

PYTEST_OPTIONS := --numprocesses 2 --dist loadfile --no-loadscope-reorder
# No server and no JVM.
FAST := tests/unit app udfs -m 'not redis and not spark and not kafka and not slow' $(PYTEST_OPTIONS)
BOUNDS := .bounds

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-bounds coverage lint upgrade chaos bench growth paper quality soak docs clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(RUNTIME) ## Make .venv and install the application

demo: $(RUNTIME) ## Replay a stream with two concept drifts; print the result, draw demo/report.png
	@rm -rf $(DEMO) && mkdir $(DEMO)
	@$(BIN)/python -m app generate --output $(DEMO)/cd1.csv --rows $(DEMO_ROWS) --features 20 > $(DEMO)/drift
	@$(BIN)/python -m app replay --input $(DEMO)/cd1.csv --format csv --label label \
		--workdir $(DEMO)/workdir --rows-per-batch 2000
	@$(BIN)/python -m app report --workdir $(DEMO)/workdir --output $(DEMO)/report.png \
		--drift $$(cat $(DEMO)/drift)

test: $(TESTING) ## Install what is missing and run the whole suite
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

test-fast: $(TESTING) ## Run the tests that need no server and no JVM (a minute)
	$(BIN)/python -m pytest $(FAST)

test-bounds: test-bounds-lowest-direct test-bounds-highest ## Run test-fast with the lowest and the newest of each dependency

test-bounds-%: $(BIN)/uv
	$(BIN)/uv pip compile --quiet --upgrade --resolution $* --extra test --python-version 3.11 setup.cfg --output-file $(BOUNDS)/$*.txt
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(BOUNDS)/$*
	$(BIN)/uv pip install --quiet --python $(BOUNDS)/$* --requirement $(BOUNDS)/$*.txt --editable .
	$(BOUNDS)/$*/bin/python -m pytest $(FAST)

coverage: $(TESTING) $(CHECKING) ## Run the whole suite; list the lines of app/ and udfs/ that it does not reach
	$(BIN)/python -m pytest --cov $(PYTEST_OPTIONS)

lint: $(TESTING) $(CHECKING) ## Check style, types, and which module imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

upgrade: $(BIN)/uv ## Renew constraints.txt: the newest of each dependency that fit together
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --no-annotate \
		--no-emit-index-url --custom-compile-command 'make upgrade' setup.cfg --output-file constraints.txt

chaos: $(TESTING) ## Kill runs and their Redis at random; check that nothing is lost (two hours or less)
	$(BIN)/python -m tests.chaos
	$(BIN)/python -m tests.chaos.registry_machine
	$(BIN)/python -m tests.chaos.streams
	$(BIN)/python -m tests.chaos.operator

bench: $(TESTING) ## Measure reading, learning, scoring, the loop, live streams and freshness; one table (20 minutes)
	$(BIN)/python -m tests.bench

paper: $(TESTING) ## Learn the paper's streams, 1,000,000 rows each; table and figures in paper/
	$(BIN)/python -m tests.bench.paper --output paper

quality: $(TESTING) $(COMPARING) ## Learn unlike streams and spoilt rows with the defaults, beside fixed depths and forests (hours)
	$(BIN)/python -m tests.bench.robust
	$(BIN)/python -m tests.bench.quality

soak: $(TESTING) ## Run an hour of stream, and 5,000 batches; print how memory and state grow (half an hour)
	$(BIN)/python -m tests.bench.soak
	$(BIN)/python -m tests.bench.many_batches

growth: $(TESTING) ## Do 100,000 batches without Spark; print files and start-up times (an hour or less)
	$(BIN)/python -m tests.bench.growth

docs: $(DOCUMENTING) ## Build the documentation as a site in site/; a link that leads nowhere is an error
	$(BIN)/zensical build --strict --clean

clean: ## Remove what was made, .venv too
	rm -rf $(VENV) $(BOUNDS) $(DEMO) paper site .cache .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .coverage *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, not " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# Apart from the extras, which cannot be installed while a new bound contradicts constraints.txt.
$(BIN)/uv: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv

$(VENV)/.installed-%: setup.cfg constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	@touch $@
