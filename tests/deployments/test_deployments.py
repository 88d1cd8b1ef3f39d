"""Prefect's server accepts the deployments of prefect.yaml."""

import importlib
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft4Validator
from prefect.utilities.callables import parameter_schema

ROOT = Path(__file__).parent.parent.parent
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_the_parameter_schema_of_a_flow_is_draft_4(deployment: dict[str, str]) -> None:
    # Prefect 2 refuses other schemas, such as one with an exclusive bound of pydantic 2.
    path, name = deployment["entrypoint"].split(":")
    flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    Draft4Validator.check_schema(parameter_schema(flow).dict())
