# ovs-lwt: every way to use this checkout. `make` prints them.

VENV := .venv
BIN := $(VENV)/bin
# Where a Ryu is: its end-to-end tests run with it.
export OVS_LWT_RYU_PYTHON ?= $(CURDIR)/.venv-ryu/bin/python
# What pytest is given, e.g. sudo make test ARGS='-k arp -x'
ARGS ?=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup dev root lint format test test-tools test-kernel test-vagrant demo bench bench-scale profile \
	bench-netlink bench-rules bench-devices docs clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "test and demo need root (network namespaces): sudo make test, sudo make demo KEEP=1"

setup: ## install what is missing (Debian packages, .venv, .venv-ryu)
	@scripts/setup.sh

dev: setup # what only the people of this project need
	@$(BIN)/python -c 'import matplotlib' 2>&- && [ -x $(BIN)/py-spy ] || $(BIN)/pip install -qe '.[dev]'

root:
	@[ "$$(id -u)" -eq 0 ] || { echo "needs root: sudo make $(MAKECMDGOALS)" >&2; exit 1; }

lint: setup ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## rewrite the code as ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: root test-tools lint ## every check and every test, from a fresh clone
	$(BIN)/python -m pytest $(ARGS)

test-tools:
	@scripts/setup.sh test

test-kernel: setup ## the kernel suite alone, in user-mode Linux
	$(BIN)/python -m pytest tests/kernel $(ARGS)

test-vagrant: root ## three virtual machines, emulated: up, smoke test, destroy (10 minutes)
	vagrant/testbox/run.sh

demo: root setup ## three hosts, two tenants with the same addresses (KEEP=1 leaves them up)
	$(BIN)/ovs-lwt demo $(if $(KEEP),--keep)

bench: root setup ## 100,000 endpoints against ovs-ofctl --bundle
	$(BIN)/python -m bench.openflow

bench-scale: root dev ## a million endpoints, 4,096 tenants, 1,000 hosts (15 minutes; SIZE=100000 for less)
	$(BIN)/python -m bench.scale $(if $(SIZE),--size $(SIZE))

profile: root dev ## a flame graph of the cold start: docs/cold-start.svg (SIZE=100000 for less)
	$(BIN)/python -m bench.scale.profile $(if $(SIZE),--size $(SIZE))

bench-netlink: root setup ## the kernel's planes: batches, rules and devices (minutes)
	$(BIN)/python -m bench.netlink
	$(BIN)/python -m bench.rules
	$(BIN)/python -m bench.devices

bench-rules: root setup ## a packet among 4,096 tenants: tree of rules against list and VRFs
	$(BIN)/python -m bench.rules

bench-devices: root setup ## 4,094 tenants on one device against a vxlan and bridge for each
	$(BIN)/python -m bench.devices

docs: setup ## generate docs/ and the README's feature table again
	$(BIN)/python -m ovs_lwt.reference > docs/tables.md
	$(BIN)/python -m ovs_lwt.reference overlay > docs/overlay.md
	$(BIN)/python -m ovs_lwt.reference features README.md

clean: ## remove what was built here
	rm -rf .venv .venv-ryu build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
		.hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
