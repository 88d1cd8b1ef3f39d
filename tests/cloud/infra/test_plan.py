"""The plan: all resources to create with their costs, from inputs that a user can change."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from boat.errors import SettingError
from deployments.aws import plan, template
from deployments.aws.plan import FREE, PRICES, Plan
from tests.conftest import ROOT

TEMPLATE = template.load()
INPUTS: dict[str, Any] = json.loads(PRICES.read_text())
LOGIN = {"CertificateArn": "arn:aws:acm:eu-west-1:1:certificate/1", "DomainName": "prefect.shop.example"}


def test_the_origin_of_the_shop_is_written_as_browsers_send_it() -> None:
    assert plan.assignments(["ShopOrigin=https://Shop.example:443/"]) == {"ShopOrigin": "https://shop.example"}
    with pytest.raises(SettingError, match=r"ShopOrigin has .* which is not an origin: it has no scheme"):
        plan.assignments(["ShopOrigin=shop.example"])


def planned(values: dict[str, str] | None = None, inputs: dict[str, Any] = INPUTS) -> Plan:
    return Plan(TEMPLATE, template.parameters(TEMPLATE, values or {}), inputs)


def total(of: Plan) -> float:
    return sum(map(of.cost, of.charges()))


def test_the_command_needs_no_credentials_and_creates_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deployments.aws.plan"], cwd=ROOT, env={}, capture_output=True, text=True, check=True
    )
    assert f"The stack has {len(planned().resources)} resources:" in done.stdout
    assert INPUTS["note"] in done.stdout
    assert done.stdout.endswith("Nothing was created.\n")
    amounts = [float(amount) for amount in re.findall(r"(\d+\.\d\d) USD", done.stdout)]
    assert amounts[-1] == pytest.approx(sum(amounts[:-1]), abs=0.005 * len(amounts))


def test_every_type_is_free_or_has_its_price() -> None:
    types = FREE | set(plan._RULES)
    assert {resource["Type"] for resource in TEMPLATE["Resources"].values()} == types


def test_a_type_without_a_price_rule_is_an_error() -> None:
    new = {"Parameters": {}, "Conditions": {}, "Resources": {"Gateway": {"Type": "AWS::EC2::NatGateway"}}}
    with pytest.raises(SettingError, match="NatGateway"):
        Plan(new, {}, INPUTS).charges()


def test_every_price_names_its_source_and_is_used() -> None:
    assert all(price["source"].startswith("https://") and price["usd"] > 0 for price in INPUTS["prices"].values())
    used = {charge.price for charge in planned({"ImageTag": "current", **LOGIN}).charges()}
    assert used <= set(INPUTS["prices"])


def test_a_login_costs_its_load_balancer() -> None:
    without, with_login = planned(), planned(LOGIN)
    names = {charge.name for charge in with_login.charges()} - {charge.name for charge in without.charges()}
    assert names == {"UiBalancer", "UiBalancer capacity", "UiBalancer addresses", "Users"}
    assert total(with_login) > total(without)


def test_a_service_without_tasks_costs_nothing() -> None:
    assert "WorkerService CPU" not in {charge.name for charge in planned().charges()}
    worker = {charge.name: charge.quantity for charge in planned({"ImageTag": "current"}).charges()}
    assert worker["WorkerService CPU"] == 730 * 0.25


def test_usage_is_an_input() -> None:
    usage = {**INPUTS["usage"], "gpu_hours": {"value": 1015.2, "text": "much more"}}
    difference = total(planned(inputs={**INPUTS, "usage": usage})) - total(planned())
    assert difference == pytest.approx(1000 * INPUTS["prices"]["ec2.g4dn.xlarge_spot_hour"]["usd"])
