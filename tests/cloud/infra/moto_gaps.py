"""Parts of the template that moto 5.2 cannot create, and a workaround for each.

Types that moto ignores need no edit. `UNKNOWN_TO_MOTO` lists them, and a test compares the list with the resources
that are missing after a deployment. Every other resource is created by the template.
"""

import copy
import re
from collections.abc import Callable
from typing import Any

Properties = dict[str, Any]


def _service_role(properties: Properties) -> None:
    """Add a service role, which moto requires. AWS recommends its service-linked role."""
    properties["ServiceRole"] = {"Fn::GetAtt": ["HostRole", "Arn"]}


EDITS: dict[str, Callable[[Properties], None]] = {
    "SpotHosts": _service_role,
    "OnDemandHosts": _service_role,
}

UNKNOWN_TO_MOTO = {
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::Stage",
    "AWS::Budgets::Budget",
    "AWS::CloudWatch::Alarm",
    "AWS::Cognito::UserPool",
    "AWS::Cognito::UserPoolClient",
    "AWS::Cognito::UserPoolDomain",
    "AWS::IAM::OIDCProvider",
    "AWS::S3::BucketPolicy",
    "AWS::SecretsManager::Secret",
    "AWS::ServiceDiscovery::PrivateDnsNamespace",
    "AWS::ServiceDiscovery::Service",
}


def for_moto(template: dict[str, Any]) -> dict[str, Any]:
    """Return the template with the edits above. Attributes of resources unknown to moto become plain text."""
    edited = copy.deepcopy(template)
    for name, edit in EDITS.items():
        edit(edited["Resources"][name]["Properties"])
    absent = {name for name, resource in edited["Resources"].items() if resource["Type"] in UNKNOWN_TO_MOTO}
    for part in ("Resources", "Outputs"):
        edited[part] = _without(edited[part], absent)
    return edited


def _without(value: Any, absent: set[str]) -> Any:
    if isinstance(value, list):
        return [_without(item, absent) for item in value]
    if not isinstance(value, dict):
        return value
    if "Fn::GetAtt" in value and value["Fn::GetAtt"][0] in absent:
        return "arn:aws:iam::123456789012:absent/" + value["Fn::GetAtt"][0]
    if "Ref" in value and value["Ref"] in absent:
        return "arn:aws:iam::123456789012:absent/" + value["Ref"]
    if isinstance(text := value.get("Fn::Sub"), str):
        return {"Fn::Sub": re.sub(rf"\$\{{({'|'.join(sorted(absent))})(\.\w+)?\}}", r"absent-\1", text)}
    return {key: _without(item, absent) for key, item in value.items()}
