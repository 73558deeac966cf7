VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
DEMO := demo
# pycodestyle, pyflakes, import order, bugbear, modern syntax. E741: the paper's letter is l.
RULES := E,F,W,I,B,UP
DEMO_ROWS ?= 60000

# What is installed follows from setup.cfg alone; one stamp for each set of extras.
RUNTIME := $(VENV)/.installed-report
TESTING := $(VENV)/.installed-test

.DEFAULT_GOAL := help
.PHONY: help setup demo test chaos bench paper quality soak lint clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(RUNTIME) ## Make .venv and install the application

demo: $(RUNTIME) ## Replay a stream with two concept drifts; print the result, draw demo/report.png
	@rm -rf $(DEMO) && mkdir $(DEMO)
	@$(BIN)/python -m app generate --output $(DEMO)/cd1.csv --rows $(DEMO_ROWS) --features 20 > $(DEMO)/drift
	@$(BIN)/python -m app replay --input $(DEMO)/cd1.csv --format csv --label label \
		--workdir $(DEMO)/workdir --rows-per-batch 2000
	@$(BIN)/python -m app report --workdir $(DEMO)/workdir --output $(DEMO)/report.png \
		--drift $$(cat $(DEMO)/drift)

test: $(TESTING) ## Install what is missing and run the whole suite
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

chaos: $(TESTING) ## Kill runs and their Redis at random; check that nothing is lost (an hour or less)
	$(BIN)/python -m tests.chaos
	$(BIN)/python -m tests.chaos.registry_machine
	$(BIN)/python -m tests.chaos.streams

bench: $(TESTING) ## Measure learning, scoring, the loop and freshness; one table (10 minutes)
	$(BIN)/python -m tests.bench

paper: $(TESTING) ## Learn the paper's streams, 1,000,000 rows each; table and figures in paper/
	$(BIN)/python -m tests.bench.paper --output paper

quality: $(TESTING) ## Learn a dozen unlike streams with the defaults, beside fixed depths
	$(BIN)/python -m tests.bench.quality

soak: $(TESTING) ## Run a stream of an hour in ten minutes; print how memory and state grow
	$(BIN)/python -m tests.bench.soak

lint: $(TESTING) ## Check style
	$(BIN)/ruff check --line-length 100 --select $(RULES) --ignore E741 --per-file-ignores 'notebooks/*:E402,notebooks/*:E501' .
	$(BIN)/ruff format --line-length 100 --check .

clean: ## Remove what was made, .venv too
	rm -rf $(VENV) $(DEMO) paper .pytest_cache .ruff_cache *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, not " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): setup.cfg | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[report]'
	@touch $@

$(TESTING): setup.cfg | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@
