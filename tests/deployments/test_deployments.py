"""What `prefect deploy` will send."""

import importlib
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft4Validator
from prefect.utilities.callables import parameter_schema

ROOT = Path(__file__).parent.parent.parent
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda each: each["name"])
def test_the_server_takes_the_parameters_form(deployment: dict[str, str]) -> None:
    """Prefect 2 refuses a schema that is not of draft 4, such as one with an exclusive bound of pydantic 2."""
    path, name = deployment["entrypoint"].split(":")
    flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    Draft4Validator.check_schema(parameter_schema(flow).dict())
