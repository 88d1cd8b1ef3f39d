"""The CloudFormation template as data: `python -m deployments.aws.template` prints it as JSON, anchors written out."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from boat.errors import SettingError

TEMPLATE = Path(__file__).with_name("boat.yaml")
SHORT_FORMS = {"Ref": "Ref", "Condition": "Condition"}
"""Tags whose long form is not `Fn::NAME`."""


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, such as `!Sub`."""


def _long_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {SHORT_FORMS.get(suffix, f"Fn::{suffix}"): value}


_Loader.add_multi_constructor("!", _long_form)


def load(path: Path = TEMPLATE) -> dict[str, Any]:
    """The template with every intrinsic function in its long form."""
    template: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    return template


def parameters(template: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """A value for each parameter that is given or has a default.

    Raises:
        SettingError: A parameter that the template does not know.
    """
    known = template["Parameters"]
    if unknown := sorted(set(given) - set(known)):
        raise SettingError(f"The template has no parameter {', '.join(unknown)}.", f"It has: {', '.join(known)}.")
    return {name: str(given.get(name, known[name].get("Default", ""))) for name in known}


def holds(template: Mapping[str, Any], condition: Any, values: Mapping[str, str]) -> bool:
    """Whether a condition, by name or as an expression, holds for these parameters."""
    if isinstance(condition, str):
        return holds(template, template["Conditions"][condition], values)
    ((function, arguments),) = condition.items()
    if function == "Condition":
        return holds(template, arguments, values)
    if function == "Fn::Equals":
        left, right = (values[side["Ref"]] if isinstance(side, dict) else str(side) for side in arguments)
        return left == right
    every = [holds(template, argument, values) for argument in arguments]
    return {"Fn::Not": not every[0], "Fn::And": all(every), "Fn::Or": any(every)}[function]


def made(template: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The resources that these parameters make, by logical name."""
    return {
        name: resource
        for name, resource in template["Resources"].items()
        if "Condition" not in resource or holds(template, resource["Condition"], values)
    }


if __name__ == "__main__":
    print(json.dumps(load(), indent=1))
