"""The template is valid, and a stack of it is made, changed and left alone over HTTP."""

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
    """The template, as far as moto can create it."""
    return for_moto(template.load())


@pytest.fixture
def small() -> dict[str, Any]:
    """A template of one bucket: moto updates few of the types in the whole one."""
    declared = {name: {"Type": "String"} for name in ("AlertEmail", "CodeBucket", "PredictKey", "ImageTag")}
    declared["ImageTag"]["Default"] = "none"
    tags = [{"Key": "image", "Value": {"Ref": "ImageTag"}}]
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "boat-small", "Tags": tags}}
    return {"Parameters": declared, "Resources": {"Small": bucket}}


@pytest.fixture
def stack(aws: boto3.Session) -> Stack:
    return Stack(aws, poll_seconds=0.05)


def deployed(stack: Stack, body: dict[str, Any], given: dict[str, str]) -> set[str]:
    """Logical names of what is there after a first deployment."""
    deploy.run(stack, body, given, lambda: True)
    return resources(stack)


def made_directly(stack: Stack, body: dict[str, Any], given: dict[str, str]) -> set[str]:
    """The same without a change set: after one, moto tells no outputs."""
    stack.ensure_code_bucket()
    functions = package.functions()
    for code in functions.values():
        stack.upload(code)
    address = stack.upload(Package.of("template", ".json", json.dumps(body).encode()))
    keys = {parameter: code.key for parameter, code in functions.items()}
    values = template.parameters(body, {**given, "CodeBucket": stack.code_bucket, **keys})
    boto3.client("cloudformation").create_stack(
        StackName=stack.name,
        TemplateURL=address,
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    return resources(stack)


def resources(stack: Stack) -> set[str]:
    pages = boto3.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack.name)
    names = {one["LogicalResourceId"] for page in pages for one in page["StackResourceSummaries"]}
    return names - {""}  # what moto did not make it lists without a name


def wanted(given: dict[str, str]) -> set[str]:
    """What the template makes with these parameters and moto knows."""
    whole = template.load()
    made = template.made(whole, template.parameters(whole, given))
    return {name for name, resource in made.items() if resource["Type"] not in UNKNOWN_TO_MOTO}


def login_and_releases() -> dict[str, str]:
    """Parameters that switch everything on; the certificate is there."""
    certificate = boto3.client("acm").request_certificate(DomainName="prefect.shop.example")["CertificateArn"]
    return {
        **GIVEN,
        "CertificateArn": certificate,
        "DomainName": "prefect.shop.example",
        "GitHubRepository": "shop/boat",
        "ImageTag": "current",
    }


def test_cfn_lint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("cfn-lint")
    found = subprocess.run([program, template.TEMPLATE], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_cfn_lint_finds_nothing_in_what_is_sent_to_cloudformation(tmp_path: Path) -> None:
    sent = tmp_path / "boat.json"
    sent.write_text(json.dumps(template.load()))
    found = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), sent], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")
    assert sent.stat().st_size < 1_000_000, "CloudFormation takes no larger template, even from S3"


def test_a_first_deployment_makes_everything_that_moto_knows(stack: Stack, body: dict[str, Any]) -> None:
    assert deployed(stack, body, GIVEN) == wanted(GIVEN)


def test_the_outputs_say_what_the_blocks_need(stack: Stack, body: dict[str, Any]) -> None:
    made_directly(stack, body, GIVEN)
    outputs = stack.outputs()
    assert outputs["LandingUri"] == "s3://boat-landing-123456789012-eu-west-1/events"
    assert outputs["EndpointRoleArn"].endswith(":role/boat-endpoint")
    assert "UiUrl" not in outputs


def test_a_login_and_releases_are_made_where_asked_for(stack: Stack, body: dict[str, Any]) -> None:
    given = login_and_releases()
    made = made_directly(stack, body, given)
    assert made == wanted(given)
    assert {"UiBalancer", "UiListener", "ReleaseRole"} <= made
    assert stack.outputs()["UiUrl"] == "https://prefect.shop.example"
    assert stack.outputs()["ReleaseRoleArn"].endswith(":role/boat-release")


def test_a_network_of_ones_own_is_used_instead_of_a_new_one(stack: Stack, body: dict[str, Any]) -> None:
    ec2 = boto3.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    ids = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]][:2]
    own = ",".join(ids)
    given = {**GIVEN, "VpcId": vpc, "TaskSubnets": own, "DatabaseSubnets": own, "AssignPublicIp": "DISABLED"}
    made = made_directly(stack, body, given)
    assert not made & {"Vpc", "InternetGateway", "TaskSubnetA"}
    assert stack.outputs()["TaskSubnetIds"] == own


def test_the_stack_behaves_as_the_template_says(stack: Stack, body: dict[str, Any]) -> None:
    made_directly(stack, body, GIVEN)
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
    deploy.run(stack, small, {**GIVEN, "ImageTag": "none"}, lambda: True)  # moto takes a default for a change
    first = stack.describe()
    capsys.readouterr()
    deploy.run(stack, small, {}, lambda: pytest.fail("asked about nothing"))
    assert capsys.readouterr().out == "Stack 'boat' is up to date.\n"
    assert stack.describe() == first


def test_a_parameter_is_kept_until_another_is_given(stack: Stack, small: dict[str, Any]) -> None:
    deploy.run(stack, small, GIVEN, lambda: True)
    deploy.run(stack, small, {"ImageTag": "current"}, lambda: True)
    found = stack.describe()
    assert found is not None
    assert found["StackStatus"] == "UPDATE_COMPLETE"
    values = {one["ParameterKey"]: one["ParameterValue"] for one in found["Parameters"]}
    assert (values["AlertEmail"], values["ImageTag"]) == (GIVEN["AlertEmail"], "current")
    (tag,) = boto3.client("s3").get_bucket_tagging(Bucket="boat-small")["TagSet"]
    assert tag == {"Key": "image", "Value": "current"}


def test_a_no_leaves_nothing_behind(stack: Stack, body: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    deploy.run(stack, body, GIVEN, lambda: False)
    assert stack.describe() is None
    shown = capsys.readouterr().out
    assert "AWS::Batch::JobQueue" in shown
    assert shown.endswith("Nothing was changed.\n")


def test_a_missing_or_unknown_parameter_is_named(stack: Stack, body: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="AlertEmail is missing"):
        stack.propose(body, {})
    with pytest.raises(SettingError, match="no parameter Coler"):
        stack.propose(body, {**GIVEN, "Coler": "red"})


def test_code_lies_under_its_own_digest_in_a_private_bucket(stack: Stack, body: dict[str, Any]) -> None:
    stack.propose(body, GIVEN)
    s3 = boto3.client("s3")
    for parameter, code in package.functions().items():
        stored = s3.get_object(Bucket=stack.code_bucket, Key=code.key)["Body"].read()
        assert stored == code.content == package.functions()[parameter].content
    closed = s3.get_public_access_block(Bucket=stack.code_bucket)["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True}


def test_the_command_says_what_is_wrong(aws: boto3.Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy.main(["--parameter", "AlertEmail"]) == 1
    assert "Write NAME=VALUE" in capsys.readouterr().err


def test_the_gaps_of_moto_are_those_listed(stack: Stack, body: dict[str, Any]) -> None:
    given = login_and_releases()
    made = made_directly(stack, body, given)
    whole = template.load()
    everything = template.made(whole, template.parameters(whole, given))
    assert {resource["Type"] for name, resource in everything.items() if name not in made} == UNKNOWN_TO_MOTO
