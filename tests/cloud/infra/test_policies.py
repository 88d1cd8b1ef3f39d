"""Every statement of every policy: principals, actions, resources and conditions."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from deployments.aws import template

pytestmark = pytest.mark.cloud

DUTIES = {"collect", "load", "transform", "train", "deploy", "serve", "operate"}
HELPING_ROLES = {"job", "endpoint", "server", "register", "agent", "host", "release"}
"""Roles of AWS services and of the tooling, each with fewer permissions than the duty that it supports."""

NO_NARROWER = {
    "ecr:GetAuthorizationToken": "a login to the whole registry; what may be pulled is said elsewhere",
    "batch:DescribeJobs": "Batch has no resource for its reads",
    "batch:ListJobs": "Batch has no resource for its reads",
    "ecs:ListTasks": "its resource is a container instance, which Fargate has none of",
    "ecs:DescribeTaskDefinition": "ECS has no resource for it",
    "sagemaker:ListModels": "lists have no resource",
    "sagemaker:ListEndpointConfigs": "lists have no resource",
    "cloudwatch:PutMetricData": "metrics have no resource; narrowed by namespace",
    "ssmmessages:CreateControlChannel": "channels of ECS Exec have no resource",
    "ssmmessages:CreateDataChannel": "channels of ECS Exec have no resource",
    "ssmmessages:OpenControlChannel": "channels of ECS Exec have no resource",
    "ssmmessages:OpenDataChannel": "channels of ECS Exec have no resource",
}
"""Actions whose service knows no resource to narrow them to (AWS's service authorization reference), and why."""

AWS_MANAGED = {
    "arn:${AWS::Partition}:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role": (
        "Batch makes the cluster its hosts join, under a name of its own"
    ),
}
TRUSTED = {
    "lambda.amazonaws.com": None,  # Lambda sends no source to compare
    "ec2.amazonaws.com": None,
    "ecs-tasks.amazonaws.com": "aws:SourceAccount",
    "sagemaker.amazonaws.com": "aws:SourceAccount",
}
"""Services that may take a role, and the key that keeps other accounts from making them do so."""

TEMPLATE = template.load()
RESOURCES = TEMPLATE["Resources"]


class Statement(NamedTuple):
    """A statement and its path in the template."""

    path: str
    body: dict[str, Any]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    return {name: resource["Properties"] for name, resource in RESOURCES.items() if resource["Type"] == kind}


def granted() -> Iterator[Statement]:
    """Yield the statements of roles and managed policies."""
    for name, properties in of_type("AWS::IAM::Role").items():
        for policy in properties.get("Policies", []):
            for body in policy["PolicyDocument"]["Statement"]:
                yield Statement(f"{name}: {listed(body['Action'])}", body)
    for name, properties in of_type("AWS::IAM::ManagedPolicy").items():
        for body in properties["PolicyDocument"]["Statement"]:
            yield Statement(f"{name}: {listed(body['Action'])}", body)


def trusts() -> Iterator[Statement]:
    for name, properties in of_type("AWS::IAM::Role").items():
        for body in properties["AssumeRolePolicyDocument"]["Statement"]:
            yield Statement(name, body)


def policy_documents(value: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of policy documents in the template."""
    if isinstance(value, dict):
        if "Statement" in value:
            yield path
        for key, item in value.items():
            yield from policy_documents(item, f"{path}/{key}")
    elif isinstance(value, list):
        for item in value:
            yield from policy_documents(item, path)


GRANTED, TRUSTS = list(granted()), list(trusts())
each_statement = pytest.mark.parametrize("statement", GRANTED, ids=lambda statement: statement.path)


def test_every_duty_has_a_role_and_every_role_a_purpose() -> None:
    roles = {properties["RoleName"].removeprefix("boat-") for properties in of_type("AWS::IAM::Role").values()}
    assert roles == DUTIES | HELPING_ROLES


def test_every_policy_document_is_tested() -> None:
    documents = {
        path.split("/")[1] if path else ""
        for path in (path for name, resource in RESOURCES.items() for path in policy_documents(resource, f"/{name}"))
    }
    walked = {
        *of_type("AWS::IAM::Role"),
        *of_type("AWS::IAM::ManagedPolicy"),
        *of_type("AWS::S3::BucketPolicy"),
    }
    assert documents == walked


@each_statement
def test_actions_have_no_wildcards(statement: Statement) -> None:
    assert statement.body["Effect"] == "Allow"
    assert "NotAction" not in statement.body
    assert "NotResource" not in statement.body
    assert [action for action in listed(statement.body["Action"]) if "*" in action] == []


@each_statement
def test_resources_are_named_if_the_service_supports_it(statement: Statement) -> None:
    if "*" in listed(statement.body["Resource"]):
        assert set(listed(statement.body["Action"])) <= set(NO_NARROWER)
    for resource in listed(statement.body["Resource"]):
        arn = resource.get("Fn::Sub", "") if isinstance(resource, dict) else ""
        service = arn.split(":")[2] if arn.startswith("arn:") else ""
        assert "*" not in service
        last = arn.split(":", 5)[5] if arn.count(":") >= 5 else ""
        assert last != "*", "a whole service"


def test_every_exception_is_still_needed() -> None:
    open_ended = {
        action
        for statement in GRANTED
        if "*" in listed(statement.body["Resource"])
        for action in listed(statement.body["Action"])
    }
    assert open_ended == set(NO_NARROWER)


@each_statement
def test_roles_are_passed_only_to_their_service(statement: Statement) -> None:
    if "iam:PassRole" not in listed(statement.body["Action"]):
        return
    assert listed(statement.body["Action"]) == ["iam:PassRole"]
    service = statement.body["Condition"]["StringEquals"]["iam:PassedToService"]
    for resource in listed(statement.body["Resource"]):
        name, attribute = resource["Fn::GetAtt"]
        assert attribute == "Arn"
        taken_by = RESOURCES[name]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"]
        assert taken_by == service


@each_statement
def test_tasks_run_on_boats_cluster_only(statement: Statement) -> None:
    if "ecs:RunTask" in listed(statement.body["Action"]):
        assert statement.body["Condition"] == {"ArnEquals": {"ecs:cluster": {"Fn::GetAtt": ["Cluster", "Arn"]}}}


def test_no_role_may_change_permissions() -> None:
    changing = {
        action
        for statement in GRANTED
        for action in listed(statement.body["Action"])
        if action.startswith(("iam:", "sts:", "kms:", "organizations:"))
    }
    assert changing == {"iam:PassRole"}


def test_only_the_registering_task_and_the_agent_read_secrets() -> None:
    readers = {
        name: listed(body["Resource"])
        for name, properties in of_type("AWS::IAM::Role").items()
        for policy in properties.get("Policies", [])
        for body in policy["PolicyDocument"]["Statement"]
        if "secretsmanager:GetSecretValue" in listed(body["Action"])
    }
    assert readers == {
        "RegisterRole": [{"Ref": "SnowflakeKey"}, {"Ref": "SlackUrl"}],
        "AgentRole": [{"Ref": "DatabasePassword"}],
    }


def test_the_collector_adds_landing_files_and_reads_nothing() -> None:
    allowed = {
        action: body["Resource"]
        for policy in RESOURCES["CollectRole"]["Properties"]["Policies"]
        for body in policy["PolicyDocument"]["Statement"]
        for action in listed(body["Action"])
    }
    logs = {"Fn::GetAtt": ["CollectLogs", "Arn"]}
    assert allowed == {
        "s3:PutObject": {"Fn::Sub": "${Landing.Arn}/events/*"},
        "logs:CreateLogStream": logs,
        "logs:PutLogEvents": logs,
    }


def test_only_the_deploying_role_changes_an_endpoint() -> None:
    changers = {
        statement.path.split(":")[0]
        for statement in GRANTED
        if "sagemaker:UpdateEndpoint" in listed(statement.body["Action"])
    }
    assert changers == {"DeployRole"}


@pytest.mark.parametrize("statement", TRUSTS, ids=lambda statement: statement.path)
def test_a_role_is_assumed_only_by_its_service(statement: Statement) -> None:
    principal, condition = statement.body["Principal"], statement.body.get("Condition", {})
    if "Federated" in principal:
        assert statement.path == "ReleaseRole"
        assert statement.body["Action"] == "sts:AssumeRoleWithWebIdentity"
        issuer = "token.actions.githubusercontent.com"
        assert condition["StringEquals"][f"{issuer}:aud"] == "sts.amazonaws.com"
        subject = condition["StringLike"][f"{issuer}:sub"]["Fn::Sub"]
        assert subject == "repo:${GitHubRepository}:ref:refs/tags/v*"
        return
    assert set(principal) == {"Service"}
    assert statement.body["Action"] == "sts:AssumeRole"
    key = TRUSTED[principal["Service"]]
    if key:
        assert condition["StringEquals"][key] == {"Ref": "AWS::AccountId"}


def test_managed_policies_of_aws_are_attached_only_with_a_reason() -> None:
    attached = {
        policy["Fn::Sub"]
        for properties in of_type("AWS::IAM::Role").values()
        for policy in properties.get("ManagedPolicyArns", [])
        if "Fn::Sub" in policy
    }
    assert attached == set(AWS_MANAGED)


def test_every_bucket_is_private_encrypted_versioned_and_tls_only() -> None:
    refused = {}
    for properties in of_type("AWS::S3::BucketPolicy").values():
        (body,) = properties["PolicyDocument"]["Statement"]
        # The only wildcard is in a denial, so it cannot grant too much.
        assert (body["Effect"], body["Action"], body["Principal"]) == ("Deny", "s3:*", "*")
        assert body["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        refused[properties["Bucket"]["Ref"]] = body["Resource"]
    buckets = of_type("AWS::S3::Bucket")
    assert set(refused) == set(buckets) == {"Landing", "Artifacts", "Results"}
    for name, properties in buckets.items():
        assert refused[name] == [{"Fn::GetAtt": [name, "Arn"]}, {"Fn::Sub": f"${{{name}.Arn}}/*"}]
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert len(properties["PublicAccessBlockConfiguration"]) == 4
        assert properties["BucketEncryption"]
        assert properties["VersioningConfiguration"] == {"Status": "Enabled"}
        assert properties["LifecycleConfiguration"]["Rules"]


def test_no_secret_is_in_an_environment_or_an_address() -> None:
    for name, properties in of_type("AWS::ECS::TaskDefinition").items():
        for container in properties["ContainerDefinitions"]:
            text = str(container.get("Environment", [])) + str(container.get("Command", []))
            assert "Password" not in text, name
            assert "resolve:" not in text, name


def test_servers_without_authentication_are_internal_or_behind_the_login() -> None:
    ways_in = {
        name: [rule["SourceSecurityGroupId"]["Fn::GetAtt"][0] for rule in properties["SecurityGroupIngress"]]
        for name, properties in of_type("AWS::EC2::SecurityGroup").items()
        if name in ("ServerGroup", "DatabaseGroup")
    }
    assert ways_in == {"ServerGroup": ["TaskGroup", "TaskGroup"], "DatabaseGroup": ["ServerGroup"]}
    assert "SecurityGroupIngress" not in RESOURCES["TaskGroup"]["Properties"]
    (late,) = of_type("AWS::EC2::SecurityGroupIngress").values()
    assert late["SourceSecurityGroupId"] == {"Fn::GetAtt": ["UiGroup", "GroupId"]}
    first, *_ = RESOURCES["UiListener"]["Properties"]["DefaultActions"]
    assert (first["Type"], first["Order"]) == ("authenticate-cognito", 1)
    assert first["AuthenticateCognitoConfig"]["OnUnauthenticatedRequest"] == "authenticate"
    assert RESOURCES["Users"]["Properties"]["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is True
    assert RESOURCES["Database"]["Properties"]["PubliclyAccessible"] is False
