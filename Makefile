# What people and the CI type. Every target makes its own set-up in .venv; nothing outside this directory is touched, except that
# bench, scale and profile install etcd, wrk and h2load from Debian's packages where they are missing and may be installed.
# Another Python than the first one found: make test PYTHON=/path/to/python3

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test quick acceptance verify fix simulate simulate-slice simulate-rejoins crash-points fuzz storage-campaign spec traces mutants bench scale soak profile compiled compiled-quick compiled-test compiled-wheel clean
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

BIN := .venv/bin
HOURS ?= 1
MINUTES ?= 5
# A soak is an hour long unless MINUTES says otherwise.
SOAK_MINUTES := $(if $(filter file,$(origin MINUTES)),60,$(MINUTES))
REJOINS ?= 50
MIXED ?= 0
N ?= 10000000
# Where programs under test keep what would be in a home directory, and what tests would leave in /tmp.
SANDBOX = $(CURDIR)/.demo/$@
IN_SANDBOX = rm -rf $(SANDBOX) && mkdir -p $(SANDBOX)/tmp $(SANDBOX)/home && env HOME=$(SANDBOX)/home TMPDIR=$(SANDBOX)/tmp \
	XDG_CONFIG_HOME=$(SANDBOX)/config XDG_STATE_HOME=$(SANDBOX)/state XDG_CACHE_HOME=$(SANDBOX)/cache XDG_DATA_HOME=$(SANDBOX)/data \
	RAFTCTL_CONFIG=$(SANDBOX)/config.toml RAFTCTL_STATE=$(SANDBOX)/state/raftctl RAFTCTL_DEV_DIR=$(SANDBOX)/dev
# In the copy, so that nothing of the pure source can be imported by mistake. Without what tests the source text or never loads the engine.
TEST_COMPILED = env --chdir=.compiled PYTHONPATH=$(CURDIR)/.compiled $(CURDIR)/$(BIN)/python -m pytest -q -p no:cacheprovider \
	--ignore=tests/house --ignore=tests/raftctl
# The rooms with compiled modules, and those whose tests run the core most: simulated clusters.
COMPILED_ROOMS := $(addprefix tests/,core management runtime transport simulation testing)

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

demo: ## Three real nodes, every trigger, a node killed, a node rejoined; then everything is taken down
	@sh scripts/setup.sh run
	@$(BIN)/python scripts/demo.py

test: ## All tests
	@sh scripts/setup.sh dev
	@$(IN_SANDBOX) $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not acceptance"
	@$(IN_SANDBOX) $(BIN)/python -m pytest -q -n 2 --dist loadfile tests/acceptance
	@rm -rf $(SANDBOX)

quick: ## The tests that start no cluster of processes
	@sh scripts/setup.sh dev
	@$(IN_SANDBOX) $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not acceptance"
	@rm -rf $(SANDBOX)

acceptance: ## Three real processes, killed, cut off and filled up
	@sh scripts/setup.sh dev
	@$(IN_SANDBOX) $(BIN)/python -m pytest -q tests/acceptance
	@rm -rf $(SANDBOX)

verify: ## Style, types, layers, generated files; changes no file
	@sh scripts/setup.sh dev
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy --no-error-summary -p raft_engine -p raftctl
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m raftctl.completion_files --check
	$(BIN)/python -m raftctl.manual --check

fix: ## Format, mend what ruff can mend, write the generated files again
	@sh scripts/setup.sh dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/python -m raftctl.completion_files
	$(BIN)/python -m raftctl.manual

simulate: ## Simulated clusters under faults, new seeds for HOURS=1 hours; stops at the first seed that fails
	@sh scripts/setup.sh dev
	@$(BIN)/python -m raft_engine.testing.simulate --hours $(HOURS) --jobs 2

simulate-slice: ## What each change must pass: 20 virtual cluster hours, every kind and pair of faults, 20 seeds run twice
	@sh scripts/setup.sh dev
	@$(BIN)/python -m raft_engine.testing.simulate --seeds 1..1000 --seconds 57 --jobs 2 --weather mixed --every-kind --virtual-hours 20 --twice 20

simulate-rejoins: ## Nodes wiped, lost and put back under all other faults, until REJOINS=50 of them are whole again
	@sh scripts/setup.sh dev
	@$(BIN)/python -m raft_engine.testing.simulate --rejoins $(REJOINS) --seconds 40 --jobs 2

crash-points: ## The stores in every crash, each recovery cut and failed too; MIXED=200 further scripts, ONLY=wipe for some
	@sh scripts/setup.sh dev
	@$(BIN)/python -m raft_engine.testing.crash_campaign --jobs 2 --mixed $(MIXED) --only "$(ONLY)"

fuzz: ## N=10000000 inputs for the decoders of everything that comes from a disk, a peer or a client
	@sh scripts/setup.sh dev
	@$(BIN)/python -m raft_engine.testing.fuzz_campaign --inputs $(N) --jobs 2

storage-campaign: ## Three real processes killed, their disks failing and full, every acknowledged write checked, for MINUTES=5 minutes
	@sh scripts/setup.sh dev
	@$(IN_SANDBOX) $(BIN)/python scripts/storage_campaign.py --minutes $(MINUTES) --directory $(SANDBOX)/nodes
	@rm -rf $(SANDBOX)

spec: ## The TLA+ models of the core and of the rejoin, with and without each of their guards; needs Java; DEEP=1: all rows
	@sh scripts/setup.sh dev
	@$(BIN)/python scripts/tlc.py $(if $(DEEP),--all)

traces: ## Runs of the simulator are behaviours of the specification, altered ones and runs with known bugs are not; needs Java
	@sh scripts/setup.sh dev
	@$(BIN)/python tests/simulation/traces.py

mutants: ## How many seeds the simulator needs to find each of the known bugs: measures what the table lacks; AFRESH=1 all of it
	@sh scripts/setup.sh dev
	@$(BIN)/python tests/simulation/mutants.py --table --jobs 2 $(if $(AFRESH),--afresh)

bench: ## Every claim of speed, beside its peers in one run: a table, JSON and a plot; ROWS="puts reads" for some
	@sh scripts/setup.sh dev
	@$(BIN)/python benchmarks/run.py --list $(ROWS) >/dev/null
	@sh benchmarks/install.sh
	@.bench/venv/bin/python benchmarks/run.py $(ROWS)

scale: ## How rate, latency, memory and start-up go with nodes, clients, values, log, keys and clusters; CURVES="nodes log" for some
	@sh scripts/setup.sh dev
	@sh benchmarks/install.sh
	@.bench/venv/bin/python benchmarks/scale.py $(CURVES)

soak: ## Three real nodes under mixed load with faults for MINUTES=60 minutes: nothing is lost, and no memory, file or disk grows
	@sh scripts/setup.sh dev
	@$(BIN)/python benchmarks/soak.py --minutes $(SOAK_MINUTES)

profile: ## Where the time of a write goes: a table and a flame graph of leader and follower in benchmarks/results/
	@sh scripts/setup.sh dev
	@sh benchmarks/install.sh
	@.bench/venv/bin/python benchmarks/flame.py

compiled: ## A copy of this clone in .compiled/ with the hot modules compiled by mypyc; needs a C compiler
	@sh scripts/setup.sh dev
	@$(BIN)/python scripts/compile.py

compiled-quick: compiled ## The compiled build: the rooms that it compiles, simulated clusters, every trigger on three real processes
	@$(IN_SANDBOX) $(TEST_COMPILED) -n 2 --dist worksteal $(COMPILED_ROOMS)
	@$(IN_SANDBOX) $(TEST_COMPILED) tests/acceptance/test_triggers.py
	@rm -rf $(SANDBOX)

compiled-test: compiled ## The compiled build: all tests but those of raftctl and of the source text
	@$(IN_SANDBOX) $(TEST_COMPILED) -n 2 --dist worksteal -m "not acceptance"
	@$(IN_SANDBOX) $(TEST_COMPILED) -n 2 --dist loadfile tests/acceptance
	@rm -rf $(SANDBOX)

compiled-wheel: ## A wheel with the hot modules compiled, in dist/; needs a C compiler
	@sh scripts/setup.sh dev
	@$(BIN)/python scripts/compile.py --wheel

clean: ## Remove .venv and everything that was made here
	rm -rf .venv .demo .bench .compiled .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find raft_engine raftctl tests scripts examples -name __pycache__ -type d -prune -exec rm -rf {} +
