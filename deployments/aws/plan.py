"""Print the resources and their monthly cost: `python -m deployments.aws.plan [--parameter NAME=VALUE …]`.

The command reads the template and the list prices in `prices.json`. It needs no credentials and creates nothing.
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
    "AWS::EC2::VPCEndpoint",  # of the type gateway; the type interface has a price
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::ECS::Cluster",
    "AWS::ElasticLoadBalancingV2::Listener",
    "AWS::ElasticLoadBalancingV2::TargetGroup",
    "AWS::IAM::InstanceProfile",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::OIDCProvider",
    "AWS::IAM::Role",
    "AWS::Lambda::Permission",
    "AWS::Logs::LogGroup",  # log lines have a price, log groups do not
    "AWS::RDS::DBSubnetGroup",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Topic",  # a thousand mails a month are free
    "AWS::ServiceDiscovery::Service",
}
"""Resource types without a price."""
RUNS = {"LoadTask": "ingestion_hours", "RetrainTask": "retrain_hours", "PromoteTask": "promote_hours"}
"""Task definitions of flow runs, and the usage entry with their hours."""
FUNCTIONS = {"Collect": ("collect_millions", "collect_seconds"), "Predict": ("requests_millions", "predict_seconds")}
"""Lambda functions, and the usage entries with their calls and the duration of a call."""
BUCKETS = {"Landing": "landing_gb", "Artifacts": "artifacts_gb", "Results": "results_gb"}


@dataclass(frozen=True)
class Charge:
    """A line of the bill.

    Attributes:
        name: The resource or service.
        price: Its entry in the list of prices.
        quantity: Units in a month.
    """

    name: str
    price: str
    quantity: float


class Plan:
    """The resources of the stack with these parameters, and their cost.

    Args:
        template: The template, as returned by `deployments.aws.template.load`.
        values: Values of its parameters.
        inputs: Prices and usage, as in `prices.json`.
    """

    def __init__(self, template: Mapping[str, Any], values: Mapping[str, str], inputs: Mapping[str, Any]) -> None:
        self.template, self.values, self.inputs = template, values, inputs
        self.resources = templates.resources(template, values)

    def types(self) -> Counter[str]:
        """Count the resources by type."""
        return Counter(resource["Type"] for resource in self.resources.values())

    def charges(self) -> list[Charge]:
        """Return all lines of the monthly bill.

        Raises:
            SettingError: A resource has a type without a price rule.
        """
        charges = [charge for name in self.resources for charge in self._of(name)]
        hours = self._hours * self._usage("endpoint_instances")
        charges.append(Charge("endpoints, created by promote/latest", "sagemaker.ml.c6i.large_hour", hours))
        charges.append(Charge("Snowflake, billed by Snowflake", "snowflake_credit", self._usage("snowflake_credits")))
        charges.append(Charge("Snowflake storage", "snowflake_tb_month", self._usage("snowflake_tb")))
        charges.append(Charge("log lines", "logs_ingested_gb", self._usage("logs_gb")))
        return charges

    def cost(self, charge: Charge) -> float:
        """Return the monthly cost of a line in US dollars."""
        usd: float = self.inputs["prices"][charge.price]["usd"]
        return charge.quantity * usd

    def _of(self, name: str) -> Iterator[Charge]:
        resource = self.resources[name]
        kind = resource["Type"]
        if kind in FREE:
            return
        rule = _RULES.get(kind)
        if rule is None:
            raise SettingError(
                f"Resources of the type {kind} have no price rule.", "Add a rule to deployments/aws/plan.py."
            )
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
        calls, duration = FUNCTIONS[name]
        millions = self._usage(calls)
        seconds = millions * 1e6 * self._usage(duration)
        yield Charge(f"{name} requests", "lambda_million_requests", millions)
        yield Charge(f"{name} time", "lambda_arm_gb_second", seconds * properties["MemorySize"] / 1024)

    def _api(self, name: str, _properties: Mapping[str, Any]) -> Iterator[Charge]:
        millions = sum(self._usage(calls) for calls, _duration in FUNCTIONS.values())
        yield Charge(name, "http_api_million_requests", millions)

    def _alarm(self, name: str, _properties: Mapping[str, Any]) -> Iterator[Charge]:
        yield Charge(name, "alarm_month", 1)

    def _bucket(self, name: str, _properties: Mapping[str, Any]) -> Iterator[Charge]:
        yield Charge(name, "s3_standard_gb_month", self._usage(BUCKETS[name]))
        if name == "Landing":
            yield Charge(
                f"{name} files, one for each request", "s3_thousand_puts", self._usage("collect_millions") * 1000
            )

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
    """Return the plan as text."""
    inputs, charges = plan.inputs, plan.charges()
    lines = [f"The stack has {len(plan.resources)} resources:"]
    lines += [f"  {count:>3}  {kind}" for kind, count in sorted(plan.types().items())]
    lines += ["", f"Monthly cost, with list prices of {inputs['region']} as of {inputs['as_of']}:"]
    for charge in sorted(charges, key=plan.cost, reverse=True):
        lines.append(f"  {plan.cost(charge):>9.2f} USD  {charge.name} ({charge.quantity:,.1f} {charge.price})")
    lines.append(f"  {sum(map(plan.cost, charges)):>9.2f} USD  total")
    lines += ["", inputs["note"], "", "Assumptions (deployments/aws/prices.json):"]
    lines += [f"  {use['value']:>6}  {name}: {use['text']}" for name, use in inputs["usage"].items()]
    return "\n".join([*lines, "", "Nothing was created."])


def assignments(pairs: Sequence[str]) -> dict[str, str]:
    """Parse `NAME=VALUE` pairs. `ShopOrigin` is normalised, because API Gateway compares it as text.

    Raises:
        SettingError: A pair has no `=`, or `ShopOrigin` is not an origin.
    """
    for pair in pairs:
        if "=" not in pair:
            raise SettingError(
                f"--parameter is {pair!r}, which has no equals sign.", "Write NAME=VALUE, such as ImageTag=current."
            )
    values = dict(pair.split("=", 1) for pair in pairs)
    if "ShopOrigin" in values:
        values["ShopOrigin"] = settings.origin(values["ShopOrigin"], "ShopOrigin")
    return values


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deployments.aws.plan", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE", help="parameter of the template"
    )
    parser.add_argument(
        "--prices", type=Path, default=PRICES, help="file with list prices and usage (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        # The plan is that of the second deployment, for which an image exists.
        parameters = {"ImageTag": "current", **assignments(options.parameter)}
        template = templates.load()
        values = templates.parameters(template, parameters)
        inputs = json.loads(options.prices.read_text(encoding="utf-8"))
        print(text(Plan(template, values, inputs)))
    except BoatError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
