# ovs-lwt: every way to use this checkout. `make` prints them.

# LATEST=yes: environments with the newest of everything, whatever constraints.txt says.
VENVS := $(if $(LATEST),build/latest/)
BIN := $(VENVS).venv/bin
export LATEST ROOTS COMMANDS ARGS PYTHONS EXTRA
# Where a Ryu is: its end-to-end tests run with it.
export OVS_LWT_RYU_PYTHON ?= $(CURDIR)/$(VENVS).venv-ryu/bin/python
# What pytest is given, e.g. sudo make test ARGS='-k arp -x'; ARGS='-n0 --pdb' runs one by one.
ARGS ?=
# The tests wait more than they work: two run at once, of different files, in the files' order.
LANES := -n2 --dist=loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup dev root lint format test test-full test-latest test-fresh test-kernel test-vagrant demo \
	bench bench-scale profile bench-netlink bench-rules bench-devices docs constraints \
	wheelhouse clean setup-demo setup-lint setup-test

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "test and demo need root (network namespaces): sudo make test, sudo make demo KEEP=1"

setup: ## install what running takes: Open vSwitch, and ovs-lwt in .venv/bin
	@scripts/setup.sh

# What a purpose takes, no more: scripts/setup.sh tells them apart.
dev: ## install what the people of this project need
	@scripts/setup.sh dev

setup-demo setup-lint setup-test:
	@scripts/setup.sh $(@:setup-%=%)

root:
	@[ "$$(id -u)" -eq 0 ] || { echo "needs root: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

lint: setup-lint ## ruff, mypy, import-linter, shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	find .ci ovs_lwt scripts vagrant -type f ! -path '*/.vagrant/*' -exec \
		awk 'FNR == 1 && /^#!.*(\/sh|bash)$$/ {print FILENAME}' {} + | xargs shellcheck --external-sources

format: setup-lint ## rewrite the code as ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: root setup-test ## every test, from a fresh clone
	$(BIN)/python -m pytest $(LANES) $(ARGS)

test-full: root setup-test ## every test, with a million frames in the isolation test (10 minutes more)
	$(BIN)/python -m pytest $(LANES) --frames 1000000 $(ARGS)

test-latest: root ## the newest of everything, in environments made for it: lint, then every test
	rm -rf build/latest
	@$(MAKE) --no-print-directory -k lint test LATEST=yes \
		OVS_LWT_RYU_PYTHON=$(CURDIR)/build/latest/.venv-ryu/bin/python

test-fresh: root setup ## sudo make demo, sudo make test in bare Debian 12 and 13 (ROOTS=trixie COMMANDS=demo: less)
	scripts/fresh/run.sh

test-kernel: setup-test ## the kernel suite alone, in machines whose kernels have all it needs
	$(BIN)/python -m pytest tests/kernel $(ARGS)

test-vagrant: root ## three virtual machines, emulated: up, smoke test, destroy (10 minutes)
	vagrant/testbox/run.sh

demo: root setup-demo ## three hosts, two tenants with the same addresses (KEEP=1 leaves them up)
	$(BIN)/ovs-lwt demo $(if $(KEEP),--keep)

bench: root setup-test ## 100,000 endpoints against ovs-ofctl --bundle
	$(BIN)/python -m bench.openflow

bench-scale: root dev ## a million endpoints, 4,096 tenants, 1,000 hosts (15 minutes; SIZE=100000 for less)
	$(BIN)/python -m bench.scale $(if $(SIZE),--size $(SIZE))

profile: root dev ## a flame graph of the cold start: docs/cold-start.svg (SIZE=100000 for less)
	$(BIN)/python -m bench.scale.profile $(if $(SIZE),--size $(SIZE))

bench-netlink: root setup-test ## the kernel's planes: batches, rules and devices (minutes)
	$(BIN)/python -m bench.netlink
	$(BIN)/python -m bench.rules
	$(BIN)/python -m bench.devices

bench-rules: root setup-test ## a packet among 4,096 tenants: tree of rules against list and VRFs
	$(BIN)/python -m bench.rules

bench-devices: root setup-test ## 4,094 tenants on one device against a vxlan and bridge for each
	$(BIN)/python -m bench.devices

docs: setup ## generate docs/ and the README's feature table again
	$(BIN)/python -m ovs_lwt.reference > docs/tables.md
	$(BIN)/python -m ovs_lwt.reference overlay > docs/overlay.md
	$(BIN)/ovs-lwt schema > docs/overlay.schema.json
	$(BIN)/python -m ovs_lwt.reference features README.md

constraints: ## renew constraints.txt: the newest versions, for all Pythons; then test, and commit
	scripts/constraints.sh

wheelhouse: setup ## gather all wheels for hosts without a registry (PYTHONS='python3.11 python3.13')
	scripts/wheelhouse.sh

clean: ## remove what was built here
	rm -rf .venv .venv-ryu build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
		.hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
