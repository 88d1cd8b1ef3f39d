"""Routes for the shop's pages: each route may call its function, and every route has a limit."""

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
    """Return the logical name of the function of a route."""
    integration = ROUTES[route]["Target"]["Fn::Sub"].removeprefix("integrations/${").removesuffix("}")
    uri: list[str] = RESOURCES[integration]["Properties"]["IntegrationUri"]["Fn::GetAtt"]
    return uri[0]


def permissions(function: str) -> list[str]:
    """Return the calls of the API that may invoke a function."""
    return [
        resource["Properties"]["SourceArn"]["Fn::Sub"].split("${PredictApi}/")[1]
        for resource in RESOURCES.values()
        if resource["Type"] == "AWS::Lambda::Permission" and resource["Properties"]["FunctionName"] == {"Ref": function}
    ]


def test_routes_lead_to_collector_and_endpoints() -> None:
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


def test_every_route_is_throttled_and_every_limit_has_a_route() -> None:
    limits: list[dict[str, Any]] = [STAGE["DefaultRouteSettings"], *STAGE["RouteSettings"].values()]
    assert all(0 < limit["ThrottlingRateLimit"] <= limit["ThrottlingBurstLimit"] for limit in limits)
    assert set(STAGE["RouteSettings"]) == {route for route in ROUTES if function_of(route) == "Collect"}
    targets = {
        name for name in RESOURCES if RESOURCES[name].get("Properties", {}).get("RouteKey") in STAGE["RouteSettings"]
    }
    assert targets == set(RESOURCES["PredictStage"]["DependsOn"]), "a stage cannot name a route that is not there yet"


def test_the_collector_gets_bucket_and_origin_from_its_environment() -> None:
    variables = RESOURCES["Collect"]["Properties"]["Environment"]["Variables"]
    assert variables == {
        "BOAT_COLLECT_LANDING": {"Fn::Sub": "s3://${Landing}"},
        "BOAT_COLLECT_ORIGINS": {"Ref": "ShopOrigin"},
    }
    collector = settings.load_collector(
        {**variables, "BOAT_COLLECT_LANDING": "s3://landing", "BOAT_COLLECT_ORIGINS": "https://a"}
    )
    assert (collector.landing, collector.origins) == ("s3://landing", {"https://a"})
    assert RESOURCES["PredictApi"]["Properties"]["CorsConfiguration"]["AllowOrigins"] == [{"Ref": "ShopOrigin"}]
