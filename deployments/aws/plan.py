"""What a deployment would make and cost a month: `python -m deployments.aws.plan [--parameter NAME=VALUE …]`.

Reads the template and the list prices in `prices.json`; needs no credentials and makes nothing.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boat import settings
from boat.errors import BoatError, SettingError
from deployments.aws import template as templates

PRICES = Path(__file__).with_name("prices.json")
FREE = {
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::Stage",
    "AWS::Batch::ComputeEnvironment",
    "AWS::Batch::JobQueue",
    "AWS::Budgets::Budget",
    "AWS::Cognito::UserPoolClient",
    "AWS::Cognito::UserPoolDomain",
    "AWS::EC2::InternetGateway",
    "AWS::EC2::LaunchTemplate",
    "AWS::EC2::Route",
    "AWS::EC2::RouteTable",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::Subnet",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::VPC",
    "AWS::EC2::VPCEndpoint",  # a gateway's; an interface's would cost
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::ECS::Cluster",
    "AWS::ElasticLoadBalancingV2::Listener",
    "AWS::ElasticLoadBalancingV2::TargetGroup",
    "AWS::IAM::InstanceProfile",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::OIDCProvider",
    "AWS::IAM::Role",
    "AWS::Lambda::Permission",
    "AWS::Logs::LogGroup",  # its lines cost, whichever group they are in
    "AWS::RDS::DBSubnetGroup",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Topic",  # the first thousand mails a month
    "AWS::ServiceDiscovery::Service",
}
"""Types that cost nothing by themselves."""
RUNS = {"LoadTask": "ingestion_hours", "RetrainTask": "retrain_hours", "PromoteTask": "promote_hours"}
"""Task definitions of flow runs, and how long they run."""
CALLED = {"Collect": ("collect_millions", "collect_seconds"), "Predict": ("requests_millions", "predict_seconds")}
"""How often the Lambda functions are called, and how long a call takes."""
STORED = {"Landing": "landing_gb", "Artifacts": "artifacts_gb", "Results": "results_gb"}


@dataclass(frozen=True)
class Charge:
    """One line of the bill.

    Attributes:
        name: What costs.
        price: Its entry in the list of prices.
        quantity: How many units a month.
    """

    name: str
    price: str
    quantity: float


class Plan:
    """What one set of parameters makes.

    Args:
        template: As `deployments.aws.template.load` reads it.
        values: Of its parameters.
        inputs: Prices and usage, as in `prices.json`.
    """

    def __init__(self, template: Mapping[str, Any], values: Mapping[str, str], inputs: Mapping[str, Any]) -> None:
        self.template, self.values, self.inputs = template, values, inputs
        self.resources = templates.made(template, values)

    def types(self) -> Counter[str]:
        """How many resources of each type."""
        return Counter(resource["Type"] for resource in self.resources.values())

    def charges(self) -> list[Charge]:
        """Every line of the monthly bill.

        Raises:
            SettingError: A resource of a type whose cost is not known.
        """
        found = [charge for name in self.resources for charge in self._of(name)]
        hours = self._hours * self._usage("endpoint_instances")
        found.append(Charge("endpoints, made by promote/latest", "sagemaker.ml.c6i.large_hour", hours))
        found.append(Charge("Snowflake, by its own bill", "snowflake_credit", self._usage("snowflake_credits")))
        found.append(Charge("Snowflake storage", "snowflake_tb_month", self._usage("snowflake_tb")))
        found.append(Charge("log lines", "logs_ingested_gb", self._usage("logs_gb")))
        return found

    def cost(self, charge: Charge) -> float:
        """US dollars a month."""
        usd: float = self.inputs["prices"][charge.price]["usd"]
        return charge.quantity * usd

    def _of(self, name: str) -> Iterator[Charge]:
        resource = self.resources[name]
        kind = resource["Type"]
        if kind in FREE:
            return
        rule = _RULES.get(kind)
        if rule is None:
            raise SettingError(f"The cost of a {kind} is not known.", "Add a rule for it to deployments/aws/plan.py.")
        yield from rule(self, name, resource["Properties"])

    def _service(self, name: str, properties: Mapping[str, Any]) -> Iterator[Charge]:
        count = self._chosen(properties["DesiredCount"])
        if not count:
            return
        task = self.template["Resources"][properties["TaskDefinition"]["Ref"]]["Properties"]
        yield from _fargate(name, task, count * self._hours)
        if self.values["AssignPublicIp"] == "ENABLED":
            yield Charge(f"{name} address", "public_ipv4_hour", count * self._hours)

    def _task(self, name: str, properties: Mapping[str, Any]) -> Iterator[Charge]:
        if name in RUNS:
            yield from _fargate(f"{name} runs", properties, self._usage(RUNS[name]))

    def _training(self, _name: str, _properties: Mapping[str, Any]) -> Iterator[Charge]:
        yield Charge("training on spot GPU hosts", "ec2.g4dn.xlarge_spot_hour", self._usage("gpu_hours"))

    def _database(self, name: str, properties: Mapping[str, Any]) -> Iterator[Charge]:
        yield Charge(name, f"rds.{properties['DBInstanceClass']}_hour", self._hours)
        yield Charge(f"{name} storage", "rds_gp3_gb_month", float(properties["AllocatedStorage"]))

    def _balancer(self, name: str, _properties: Mapping[str, Any]) -> Iterator[Charge]:
        yield Charge(name, "alb_hour", self._hours)
        yield Charge(f"{name} capacity", "alb_capacity_unit_hour", self._hours)
        yield Charge(f"{name} addresses", "public_ipv4_hour", 2 * self._hours)

    def _function(self, name: str, properties: Mapping[str, Any]) -> Iterator[Charge]:
        calls, duration = CALLED[name]
        millions = self._usage(calls)
        seconds = millions * 1e6 * self._usage(duration)
        yield Charge(f"{name} requests", "lambda_million_requests", millions)
        yield Charge(f"{name} time", "lambda_arm_gb_second", seconds * properties["MemorySize"] / 1024)

    def _api(self, name: str, _properties: Mapping[str, Any]) -> Iterator[Charge]:
        millions = sum(self._usage(calls) for calls, _duration in CALLED.values())
        yield Charge(name, "http_api_million_requests", millions)

    def _alarm(self, name: str, _properties: Mapping[str, Any]) -> Iterator[Charge]:
        yield Charge(name, "alarm_month", 1)

    def _bucket(self, name: str, _properties: Mapping[str, Any]) -> Iterator[Charge]:
        yield Charge(name, "s3_standard_gb_month", self._usage(STORED[name]))
        if name == "Landing":
            yield Charge(f"{name} files, one a request", "s3_thousand_puts", self._usage("collect_millions") * 1000)

    def _images(self, name: str, _properties: Mapping[str, Any]) -> Iterator[Charge]:
        yield Charge(name, "ecr_gb_month", self._usage("images_gb"))

    def _secret(self, name: str, _properties: Mapping[str, Any]) -> Iterator[Charge]:
        yield Charge(name, "secret_month", 1)

    def _users(self, name: str, _properties: Mapping[str, Any]) -> Iterator[Charge]:
        yield Charge(name, "cognito_user_month", self._usage("users"))

    def _zone(self, name: str, _properties: Mapping[str, Any]) -> Iterator[Charge]:
        yield Charge(name, "private_zone_month", 1)

    def _chosen(self, value: Any) -> int:
        if isinstance(value, dict):
            condition, yes, no = value["Fn::If"]
            value = yes if templates.holds(self.template, condition, self.values) else no
        return int(value)

    def _usage(self, name: str) -> float:
        return float(self.inputs["usage"][name]["value"])

    @property
    def _hours(self) -> float:
        return float(self.inputs["hours_per_month"])


_RULES = {
    "AWS::ApiGatewayV2::Api": Plan._api,
    "AWS::Batch::JobDefinition": Plan._training,
    "AWS::CloudWatch::Alarm": Plan._alarm,
    "AWS::Cognito::UserPool": Plan._users,
    "AWS::ECR::Repository": Plan._images,
    "AWS::ECS::Service": Plan._service,
    "AWS::ECS::TaskDefinition": Plan._task,
    "AWS::ElasticLoadBalancingV2::LoadBalancer": Plan._balancer,
    "AWS::Lambda::Function": Plan._function,
    "AWS::RDS::DBInstance": Plan._database,
    "AWS::S3::Bucket": Plan._bucket,
    "AWS::SecretsManager::Secret": Plan._secret,
    "AWS::ServiceDiscovery::PrivateDnsNamespace": Plan._zone,
}


def _fargate(name: str, task: Mapping[str, Any], hours: float) -> Iterator[Charge]:
    yield Charge(f"{name} CPU", "fargate_vcpu_hour", hours * int(task["Cpu"]) / 1024)
    yield Charge(f"{name} memory", "fargate_gb_hour", hours * int(task["Memory"]) / 1024)


def text(plan: Plan) -> str:
    """The plan for people."""
    inputs, charges = plan.inputs, plan.charges()
    lines = [f"Would make {len(plan.resources)} resources:"]
    lines += [f"  {count:>3}  {kind}" for kind, count in sorted(plan.types().items())]
    lines += ["", f"A month, list prices of {inputs['region']} as of {inputs['as_of']}:"]
    for charge in sorted(charges, key=plan.cost, reverse=True):
        lines.append(f"  {plan.cost(charge):>9.2f} USD  {charge.name} ({charge.quantity:,.1f} {charge.price})")
    lines.append(f"  {sum(map(plan.cost, charges)):>9.2f} USD  in all")
    lines += ["", inputs["note"], "", "Assumed (deployments/aws/prices.json):"]
    lines += [f"  {use['value']:>6}  {name}: {use['text']}" for name, use in inputs["usage"].items()]
    return "\n".join([*lines, "", "Nothing was made."])


def assignments(pairs: Sequence[str]) -> dict[str, str]:
    """Read `NAME=VALUE` into a mapping; `ShopOrigin` as browsers write it, since API Gateway compares letter by letter.

    Raises:
        SettingError: No `=` in one, or `ShopOrigin` is no origin.
    """
    for pair in pairs:
        if "=" not in pair:
            raise SettingError(f"{pair!r} is no parameter.", "Write NAME=VALUE, such as ImageTag=current.")
    given = dict(pair.split("=", 1) for pair in pairs)
    if "ShopOrigin" in given:
        given["ShopOrigin"] = settings.origin(given["ShopOrigin"], "ShopOrigin")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deployments.aws.plan", description=__doc__.splitlines()[0])
    parser.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE", help="of the template")
    parser.add_argument("--prices", type=Path, default=PRICES, help="list prices and usage (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        # As it runs from the second deployment on, when there is an image.
        given = {"ImageTag": "current", **assignments(options.parameter)}
        template = templates.load()
        values = templates.parameters(template, given)
        inputs = json.loads(options.prices.read_text(encoding="utf-8"))
        print(text(Plan(template, values, inputs)))
    except BoatError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
