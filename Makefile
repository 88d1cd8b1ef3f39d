VENV := .venv
BIN := $(VENV)/bin
UV := uv==0.13.8
SHARED_OUT := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: install demo up status down lock lint test test-fast test-cloud test-soak aws-plan aws-deploy

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@python3.11 -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet $(UV)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock \
		|| $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: install
	@$(BIN)/python -m deployments.demo $(if $(EVENTS),--events "$(EVENTS)") $(if $(MAX_BAD_SHARE),--max-bad-share "$(MAX_BAD_SHARE)")

up: install
	@$(BIN)/python -m deployments.services up

status down: $(VENV)/.installed
	@$(BIN)/python -m deployments.services $@

lock:
	$(BIN)/uv pip compile pyproject.toml --extra dev --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --quiet -o requirements.lock

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest $(SHARED_OUT)

test-fast: install
	$(BIN)/pytest -m "not slow and not cloud"

test-cloud: install
	$(BIN)/pytest --soak -m cloud $(SHARED_OUT)

test-soak: install
	$(BIN)/pytest --soak -m soak

# PARAMETERS: of deployments/aws/boat.yaml, such as "AlertEmail=me@shop.example ImageTag=current"
aws-plan: install
	@$(BIN)/python -m deployments.aws.plan $(PARAMETERS:%=--parameter %)

aws-deploy: install
	@$(BIN)/python -m deployments.aws.deploy $(PARAMETERS:%=--parameter %)
