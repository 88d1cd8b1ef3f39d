VENV := .venv
BIN := $(VENV)/bin
UV := uv==0.13.8
SHARED_OUT := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: help install demo up status down lock lint test test-fast test-cloud test-soak aws-plan aws-deploy

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

install: $(VENV)/.installed  ## install the packages into .venv

$(VENV)/.installed: requirements.lock pyproject.toml
	@python3.11 -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet $(UV)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock \
		|| $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: install  ## start everything and run the three flows once (EVENTS=FILE, MAX_BAD_SHARE=0.5)
	@$(BIN)/python -m deployments.demo $(if $(EVENTS),--events "$(EVENTS)") $(if $(MAX_BAD_SHARE),--max-bad-share "$(MAX_BAD_SHARE)")

up: install  ## start the services
	@$(BIN)/python -m deployments.services up

status: $(VENV)/.installed  ## show the services
	@$(BIN)/python -m deployments.services status

down: $(VENV)/.installed  ## stop the services; the data stays in .boat/
	@$(BIN)/python -m deployments.services down

lock:  ## resolve requirements.lock again after a change in pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --quiet -o requirements.lock

lint: install  ## run linters and type checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## run linters, type checks and all tests
	$(BIN)/pytest $(SHARED_OUT)

test-fast: install  ## run the tests without slow and cloud ones
	$(BIN)/pytest -m "not slow and not cloud"

test-cloud: install  ## run the tests of the cloud, in full
	$(BIN)/pytest --soak -m cloud $(SHARED_OUT)

test-soak: install  ## run the tests with full numbers of events and kills
	$(BIN)/pytest --soak -m soak

# PARAMETERS: of deployments/aws/boat.yaml, such as "AlertEmail=me@shop.example ImageTag=current"
aws-plan: install  ## print resources and monthly costs of the AWS stack
	@$(BIN)/python -m deployments.aws.plan $(PARAMETERS:%=--parameter %)

aws-deploy: install  ## create or update the AWS stack
	@$(BIN)/python -m deployments.aws.deploy $(PARAMETERS:%=--parameter %)
