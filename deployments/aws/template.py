"""Read the CloudFormation template. `python -m deployments.aws.template` prints it as JSON, without YAML anchors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from boat.errors import SettingError

TEMPLATE = Path(__file__).with_name("boat.yaml")
SHORT_FORMS = {"Ref": "Ref", "Condition": "Condition"}
"""Tags with a long form other than `Fn::NAME`."""


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
    """Read the template, with the long form of every intrinsic function."""
    template: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    return template


def parameters(template: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
    """Return a value for each parameter: its value, its default, or the empty string.

    Raises:
        SettingError: The template has no parameter with this name.
    """
    declared = template["Parameters"]
    if unknown := sorted(set(values) - set(declared)):
        raise SettingError(
            f"The template has no parameter {', '.join(unknown)}.", f"Its parameters: {', '.join(declared)}."
        )
    return {name: str(values.get(name, declared[name].get("Default", ""))) for name in declared}


def holds(template: Mapping[str, Any], condition: Any, values: Mapping[str, str]) -> bool:
    """Return whether a condition is true for these parameters. It is a name or an expression."""
    if isinstance(condition, str):
        return holds(template, template["Conditions"][condition], values)
    ((function, arguments),) = condition.items()
    if function == "Condition":
        return holds(template, arguments, values)
    if function == "Fn::Equals":
        left, right = (values[side["Ref"]] if isinstance(side, dict) else str(side) for side in arguments)
        return left == right
    operands = [holds(template, argument, values) for argument in arguments]
    return {"Fn::Not": not operands[0], "Fn::And": all(operands), "Fn::Or": any(operands)}[function]


def resources(template: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the resources of the stack with these parameters, by logical name."""
    return {
        name: resource
        for name, resource in template["Resources"].items()
        if "Condition" not in resource or holds(template, resource["Condition"], values)
    }


if __name__ == "__main__":
    print(json.dumps(load(), indent=1))
