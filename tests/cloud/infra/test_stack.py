"""The template is valid, and its stack is created, changed and left unchanged over HTTP."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from boat.errors import SettingError
from deployments.aws import deploy, package, template
from deployments.aws.deploy import Stack
from deployments.aws.package import Package
from tests.cloud.infra.moto_gaps import UNKNOWN_TO_MOTO, for_moto

pytestmark = pytest.mark.cloud

GIVEN = {"AlertEmail": "alerts@shop.example"}


@pytest.fixture(scope="module")
def body() -> dict[str, Any]:
    """Return the template with workarounds for moto."""
    return for_moto(template.load())


@pytest.fixture
def small() -> dict[str, Any]:
    """Return a template with one bucket, because moto can update few types of the complete template."""
    declared = {name: {"Type": "String"} for name in ("AlertEmail", "CodeBucket", "PredictKey", "ImageTag")}
    declared["ImageTag"]["Default"] = "none"
    tags = [{"Key": "image", "Value": {"Ref": "ImageTag"}}]
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "boat-small", "Tags": tags}}
    return {"Parameters": declared, "Resources": {"Small": bucket}}


@pytest.fixture
def stack(aws: boto3.Session) -> Stack:
    return Stack(aws, poll_seconds=0.05)


def deployed(stack: Stack, body: dict[str, Any], values: dict[str, str]) -> set[str]:
    """Deploy a stack and return the logical names of its resources."""
    deploy.run(stack, body, values, lambda: True)
    return resources(stack)


def create_directly(stack: Stack, body: dict[str, Any], chosen: dict[str, str]) -> set[str]:
    """Create a stack without a change set, because moto returns no outputs after one."""
    stack.ensure_code_bucket()
    functions = package.functions()
    for code in functions.values():
        stack.upload(code)
    address = stack.upload(Package.of("template", ".json", json.dumps(body).encode()))
    keys = {parameter: code.key for parameter, code in functions.items()}
    values = template.parameters(body, {**chosen, "CodeBucket": stack.code_bucket, **keys})
    boto3.client("cloudformation").create_stack(
        StackName=stack.name,
        TemplateURL=address,
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    return resources(stack)


def resources(stack: Stack) -> set[str]:
    pages = boto3.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack.name)
    names = {entry["LogicalResourceId"] for page in pages for entry in page["StackResourceSummaries"]}
    return names - {""}  # moto lists resources that it did not create without a name


def expected_resources(chosen: dict[str, str]) -> set[str]:
    """Return the resources of the template with these parameters that moto can create."""
    whole = template.load()
    names = template.resources(whole, template.parameters(whole, chosen))
    return {name for name, resource in names.items() if resource["Type"] not in UNKNOWN_TO_MOTO}


def login_and_releases() -> dict[str, str]:
    """Create a certificate and return parameters that enable all features."""
    certificate = boto3.client("acm").request_certificate(DomainName="prefect.shop.example")["CertificateArn"]
    return {
        **GIVEN,
        "CertificateArn": certificate,
        "DomainName": "prefect.shop.example",
        "GitHubRepository": "shop/boat",
        "ImageTag": "current",
    }


def test_cfn_lint_accepts_the_template() -> None:
    program = Path(sys.executable).with_name("cfn-lint")
    checked = subprocess.run([program, template.TEMPLATE], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_cfn_lint_accepts_the_compiled_template(tmp_path: Path) -> None:
    sent = tmp_path / "boat.json"
    sent.write_text(json.dumps(template.load()))
    checked = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), sent], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, "")
    assert sent.stat().st_size < 1_000_000, "CloudFormation takes no larger template, even from S3"


def test_a_first_deployment_creates_all_resources_that_moto_supports(stack: Stack, body: dict[str, Any]) -> None:
    assert deployed(stack, body, GIVEN) == expected_resources(GIVEN)


def test_the_outputs_have_the_values_for_the_blocks(stack: Stack, body: dict[str, Any]) -> None:
    create_directly(stack, body, GIVEN)
    outputs = stack.outputs()
    assert outputs["LandingUri"] == "s3://boat-landing-123456789012-eu-west-1/events"
    assert outputs["EndpointRoleArn"].endswith(":role/boat-endpoint")
    assert "UiUrl" not in outputs


def test_a_login_and_releases_are_optional(stack: Stack, body: dict[str, Any]) -> None:
    chosen = login_and_releases()
    names = create_directly(stack, body, chosen)
    assert names == expected_resources(chosen)
    assert {"UiBalancer", "UiListener", "ReleaseRole"} <= names
    assert stack.outputs()["UiUrl"] == "https://prefect.shop.example"
    assert stack.outputs()["ReleaseRoleArn"].endswith(":role/boat-release")


def test_an_existing_network_is_used_instead_of_a_new_one(stack: Stack, body: dict[str, Any]) -> None:
    ec2 = boto3.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    ids = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]][:2]
    own = ",".join(ids)
    chosen = {**GIVEN, "VpcId": vpc, "TaskSubnets": own, "DatabaseSubnets": own, "AssignPublicIp": "DISABLED"}
    names = create_directly(stack, body, chosen)
    assert not names & {"Vpc", "InternetGateway", "TaskSubnetA"}
    assert stack.outputs()["TaskSubnetIds"] == own


def test_the_stack_has_the_attributes_of_the_template(stack: Stack, body: dict[str, Any]) -> None:
    create_directly(stack, body, GIVEN)
    s3 = boto3.client("s3")
    landing = stack.outputs()["LandingUri"].removeprefix("s3://").split("/")[0]
    (rule,) = s3.get_bucket_encryption(Bucket=landing)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    (queue,) = boto3.client("batch").describe_job_queues(jobQueues=["boat-train"])["jobQueues"]
    assert [order["order"] for order in queue["computeEnvironmentOrder"]] == [1, 2]
    (job,) = boto3.client("batch").describe_job_definitions(jobDefinitionName="boat-train")["jobDefinitions"]
    assert job["containerProperties"]["jobRoleArn"].endswith(":role/boat-job")
    services = boto3.client("ecs").describe_services(cluster="boat", services=["boat-prefect", "boat-worker"])
    counts = {service["serviceName"]: service["desiredCount"] for service in services["services"]}
    assert counts == {"boat-prefect": 1, "boat-worker": 0}, "no worker before there is an image"
    role = boto3.client("iam").get_role_policy(RoleName="boat-serve", PolicyName="serve")["PolicyDocument"]
    assert "sagemaker:InvokeEndpoint" in str(role)
    collect = boto3.client("lambda").get_function_configuration(FunctionName="boat-collect")
    assert collect["Environment"]["Variables"]["BOAT_COLLECT_LANDING"] == f"s3://{landing}"
    assert collect["Role"].endswith(":role/boat-collect")


def test_a_second_deployment_without_a_change_does_nothing(
    stack: Stack, small: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    deploy.run(stack, small, {**GIVEN, "ImageTag": "none"}, lambda: True)  # moto treats a default as a change
    first = stack.describe()
    capsys.readouterr()
    deploy.run(stack, small, {}, lambda: pytest.fail("asked about nothing"))
    assert capsys.readouterr().out == "Stack 'boat' is up to date.\n"
    assert stack.describe() == first


def test_a_parameter_is_remembered_until_it_is_changed(stack: Stack, small: dict[str, Any]) -> None:
    deploy.run(stack, small, GIVEN, lambda: True)
    deploy.run(stack, small, {"ImageTag": "current"}, lambda: True)
    description = stack.describe()
    assert description is not None
    assert description["StackStatus"] == "UPDATE_COMPLETE"
    values = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in description["Parameters"]}
    assert (values["AlertEmail"], values["ImageTag"]) == (GIVEN["AlertEmail"], "current")
    (tag,) = boto3.client("s3").get_bucket_tagging(Bucket="boat-small")["TagSet"]
    assert tag == {"Key": "image", "Value": "current"}


def test_a_declined_plan_changes_nothing(
    stack: Stack, body: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    deploy.run(stack, body, GIVEN, lambda: False)
    assert stack.describe() is None
    output = capsys.readouterr().out
    assert "AWS::Batch::JobQueue" in output
    assert output.endswith("Nothing was changed.\n")


def test_a_missing_or_unknown_parameter_is_named(stack: Stack, body: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="AlertEmail is missing"):
        stack.propose(body, {})
    with pytest.raises(SettingError, match="no parameter Coler"):
        stack.propose(body, {**GIVEN, "Coler": "red"})


def test_code_is_stored_by_its_digest_in_a_private_bucket(stack: Stack, body: dict[str, Any]) -> None:
    stack.propose(body, GIVEN)
    s3 = boto3.client("s3")
    for parameter, code in package.functions().items():
        stored = s3.get_object(Bucket=stack.code_bucket, Key=code.key)["Body"].read()
        assert stored == code.content == package.functions()[parameter].content
    closed = s3.get_public_access_block(Bucket=stack.code_bucket)["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True}


def test_the_command_prints_errors(aws: boto3.Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy.main(["--parameter", "AlertEmail"]) == 1
    assert "Write NAME=VALUE" in capsys.readouterr().err


def test_the_list_of_motos_gaps_is_complete(stack: Stack, body: dict[str, Any]) -> None:
    chosen = login_and_releases()
    names = create_directly(stack, body, chosen)
    whole = template.load()
    everything = template.resources(whole, template.parameters(whole, chosen))
    assert {resource["Type"] for name, resource in everything.items() if name not in names} == UNKNOWN_TO_MOTO
