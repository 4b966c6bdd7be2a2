SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
BIN := $(CURDIR)/$(VENV)/bin
ARGS ?=
TESTS ?=
WORKERS ?= 2
export PATH := $(BIN):$(PATH)

.PHONY: help
help: ## Show what can be made
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## /\1\t/' | expand -t 18

$(VENV)/.installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

.PHONY: venv
venv: $(VENV)/.installed ## Make .venv with everything pinned

.PHONY: run
run: venv sandbox-up ## Run a delta sync in the sandbox; further arguments as in ARGS="-e plexburst_sections=Music"
	@trap '$(PYTHON) -m sandbox down' EXIT; \
	before=$$(readlink runs/latest); status=0; \
	ansible-playbook delta_sync.yml -i inventory/sandbox $(ARGS) || status=$$?; \
	latest=$$(readlink runs/latest); \
	if [ "$$latest" != "$$before" ]; then echo "Report: $(CURDIR)/runs/$$latest/report.html"; \
	else echo "There is no report: the run ended before it had a folder, or it was a check."; fi; \
	exit $$status

.PHONY: sandbox-up
sandbox-up: venv ## Start the sandbox (home, Scaleway, plex.tv, S3); what it holds is kept from run to run
	$(PYTHON) -m sandbox up

.PHONY: sandbox-down
sandbox-down: venv ## End the sandbox, keep its data
	$(PYTHON) -m sandbox down

.PHONY: sandbox-reset
sandbox-reset: venv ## End the sandbox and delete its data
	$(PYTHON) -m sandbox reset

.PHONY: test
test: venv ## Run all tests (TESTS=tests/unit for some)
	$(PYTHON) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

.PHONY: e2e
e2e: venv ## Run whole playbooks on real machines (root on Debian; installs what it needs; ARGS="-k name" for some)
	$(PYTHON) -m tests.e2e $(ARGS)

.PHONY: docs
docs: venv ## Write docs/settings.md from settings.yml, and CHANGELOG.md from changelog/
	$(PYTHON) -m plexburst.settings_doc > docs/settings.md.new && mv docs/settings.md.new docs/settings.md
	$(PYTHON) -m plexburst.changelog > CHANGELOG.md.new && mv CHANGELOG.md.new CHANGELOG.md

.PHONY: lint
lint: venv ## Check style and types: ruff, mypy, yamllint, ansible-lint (production, nothing skipped)
	ruff check .
	ruff format --check .
	$(PYTHON) -m mypy
	yamllint --strict .
	ansible-lint --offline --profile production

.PHONY: collection
collection: venv ## Build the collection into dist/, from tracked files only
	@copy=$$(mktemp -d); trap 'rm -rf "$$copy"' EXIT; \
	git checkout-index --all --prefix="$$copy/" && \
	ansible-galaxy collection build "$$copy" --output-path dist --force

.PHONY: clean
clean: ## Remove caches (not .venv, runs and the sandbox's data)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .ansible build dist
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
