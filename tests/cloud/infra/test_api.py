"""What the shop's page reaches: each route leads to a function that it may call, and none is without a limit."""

from typing import Any

import pytest

from boat import settings
from deployments.aws import template

pytestmark = pytest.mark.cloud

RESOURCES = template.load()["Resources"]
ROUTES = {
    resource["Properties"]["RouteKey"]: resource["Properties"]
    for resource in RESOURCES.values()
    if resource["Type"] == "AWS::ApiGatewayV2::Route"
}
STAGE = RESOURCES["PredictStage"]["Properties"]


def function_of(route: str) -> str:
    """Logical name of the function that answers."""
    integration = ROUTES[route]["Target"]["Fn::Sub"].removeprefix("integrations/${").removesuffix("}")
    uri: list[str] = RESOURCES[integration]["Properties"]["IntegrationUri"]["Fn::GetAtt"]
    return uri[0]


def permissions(function: str) -> list[str]:
    """Which calls of the API may invoke a function."""
    return [
        resource["Properties"]["SourceArn"]["Fn::Sub"].split("${PredictApi}/")[1]
        for resource in RESOURCES.values()
        if resource["Type"] == "AWS::Lambda::Permission" and resource["Properties"]["FunctionName"] == {"Ref": function}
    ]


def test_the_page_reaches_collector_and_endpoints() -> None:
    assert {route: function_of(route) for route in ROUTES} == {
        "POST /collect": "Collect",
        "GET /collect": "Collect",
        "POST /predict": "Predict",
    }


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_a_route_may_call_its_function_and_no_other_path_may(route: str) -> None:
    method, path = route.split()
    (allowed,) = permissions(function_of(route))
    assert allowed in (f"*/{method}{path}", f"*/*{path}")


def test_every_route_is_throttled_and_limits_are_for_routes_there_are() -> None:
    limits: list[dict[str, Any]] = [STAGE["DefaultRouteSettings"], *STAGE["RouteSettings"].values()]
    assert all(0 < limit["ThrottlingRateLimit"] <= limit["ThrottlingBurstLimit"] for limit in limits)
    assert set(STAGE["RouteSettings"]) == {route for route in ROUTES if function_of(route) == "Collect"}
    targets = {
        name for name in RESOURCES if RESOURCES[name].get("Properties", {}).get("RouteKey") in STAGE["RouteSettings"]
    }
    assert targets == set(RESOURCES["PredictStage"]["DependsOn"]), "a stage cannot name a route that is not there yet"


def test_the_collector_finds_bucket_and_origin_in_its_environment() -> None:
    given = RESOURCES["Collect"]["Properties"]["Environment"]["Variables"]
    assert given == {
        "BOAT_COLLECT_LANDING": {"Fn::Sub": "s3://${Landing}"},
        "BOAT_COLLECT_ORIGINS": {"Ref": "ShopOrigin"},
    }
    found = settings.load_collector(
        {**given, "BOAT_COLLECT_LANDING": "s3://landing", "BOAT_COLLECT_ORIGINS": "https://a"}
    )
    assert (found.landing, found.origins) == ("s3://landing", {"https://a"})
    assert RESOURCES["PredictApi"]["Properties"]["CorsConfiguration"]["AllowOrigins"] == [{"Ref": "ShopOrigin"}]
