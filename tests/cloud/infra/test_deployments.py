"""The cloud has the laptop's deployments on another work pool. Roles, task families and permissions are consistent."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect_aws.workers.ecs_worker import ECSJobConfiguration

from deployments.aws import register, template
from tests.conftest import ROOT

LAPTOP = yaml.safe_load((ROOT / "prefect.yaml").read_text())
CLOUD = yaml.safe_load((ROOT / register.PREFECT_FILE).read_text())
RESOURCES = template.load()["Resources"]
FAMILIES = {
    resource["Properties"]["Family"]: resource["Properties"]
    for resource in RESOURCES.values()
    if resource["Type"] == "AWS::ECS::TaskDefinition"
}
OUTPUTS = {
    "Region": "eu-west-1",
    "LandingUri": "s3://landing/events",
    "StoreUri": "s3://artifacts/store",
    "ReportsUri": "s3://artifacts/reports",
    "ResultsBucket": "results",
    "ClusterName": "boat",
    "TaskSubnetIds": "subnet-1,subnet-2",
    "TaskGroupId": "sg-1",
    "AssignPublicIp": "ENABLED",
    "EndpointRoleArn": "arn:aws:iam::123456789012:role/boat-endpoint",
}


def without_work_pool(deployments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in deployment.items() if key != "work_pool"} for deployment in deployments]


def test_both_files_deploy_the_same_flows_with_the_same_parameters_and_schedules() -> None:
    assert without_work_pool(CLOUD["deployments"]) == without_work_pool(LAPTOP["deployments"])
    assert CLOUD["prefect-version"] == LAPTOP["prefect-version"]


def test_every_deployment_runs_from_a_family_of_the_template_that_the_worker_may_start() -> None:
    used = {deployment["work_pool"]["job_variables"]["task_definition_arn"] for deployment in CLOUD["deployments"]}
    assert used <= set(FAMILIES)
    policy = str(RESOURCES["OperateRole"]["Properties"]["Policies"])
    startable = set(re.findall(r"task-definition/([\w-]+):\*", policy))
    assert used <= startable
    assert startable <= set(FAMILIES)


def test_the_worker_may_hand_over_the_role_of_every_family_it_starts() -> None:
    policy = str(RESOURCES["OperateRole"]["Properties"]["Policies"])
    for family in set(re.findall(r"task-definition/([\w-]+):\*", policy)):
        for role in ("TaskRoleArn", "ExecutionRoleArn"):
            assert str(FAMILIES[family][role]) in policy, family


def test_each_flow_runs_with_the_role_of_its_duty() -> None:
    roles = {
        deployment["name"]: FAMILIES[deployment["work_pool"]["job_variables"]["task_definition_arn"]]["TaskRoleArn"][
            "Fn::GetAtt"
        ][0]
        for deployment in CLOUD["deployments"]
    }
    assert roles == {
        "hourly": "LoadRole",
        "nightly": "TrainRole",
        "latest": "DeployRole",
        "approve": "DeployRole",
        "rollback": "DeployRole",
        "range": "LoadRole",
    }


def test_prefects_ecs_worker_accepts_the_base_job_template() -> None:
    properties = register.job_template(OUTPUTS)
    configuration = _configuration(properties)
    request = configuration.task_run_request
    assert request["taskDefinition"] == "boat-load"
    assert request["networkConfiguration"]["awsvpcConfiguration"] == {
        "subnets": ["subnet-1", "subnet-2"],
        "securityGroups": ["sg-1"],
        "assignPublicIp": "ENABLED",
    }
    assert configuration.cluster == "boat"
    assert not configuration.task_definition, "the worker has no right to register one"


def _configuration(base: dict[str, Any]) -> ECSJobConfiguration:
    import asyncio

    values = {"task_definition_arn": "boat-load"}
    return asyncio.run(ECSJobConfiguration.from_template_and_values(base, values))


def test_the_template_creates_the_alarms_that_roll_a_canary_back() -> None:
    alarms = {
        resource["Properties"]["AlarmName"]
        for resource in RESOURCES.values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert set(register.ROLLBACK_ALARMS) <= alarms


def test_the_back_ends_accept_the_platform() -> None:
    platform = register.platform(OUTPUTS)
    assert type(platform.serving).__name__ == "SageMakerServing"
    assert type(platform.compute).__name__ == "RemoteCompute"
    assert platform.report_link(Path("pages/cards/recommend-1.html"), Path("pages")).endswith(
        "/s3/object/artifacts?prefix=reports/cards/recommend-1.html"
    )


def test_the_platform_has_the_default_shop_or_the_shop_of_the_command() -> None:
    assert register.platform(OUTPUTS).shop == "shop"
    assert register.platform(OUTPUTS, "mugs").shop == "mugs"


def test_the_deploying_role_may_make_every_call_of_the_serving_back_end() -> None:
    source = (ROOT / "src/boat/serving/sagemaker.py").read_text()
    calls = set(re.findall(r"_sagemaker\.((?:create|describe|delete|update|list|add)_\w+)", source))
    calls |= set(re.findall(r"[\"']((?:list|describe)_\w+)[\"']", source))  # paginators
    assert {"create_model", "update_endpoint"} <= calls, "the pattern still finds the calls"
    needed = {"sagemaker:" + "".join(word.title() for word in call.split("_")) for call in calls}
    granted = json.dumps(RESOURCES["DeployRole"]["Properties"]["Policies"])
    assert sorted(action for action in needed if f'"{action}"' not in granted) == []


@pytest.mark.parametrize(("service", "attribute"), [("batch", "_client|_once"), ("ecs", "_client")])
def test_roles_that_start_jobs_may_make_every_call_of_the_compute_back_ends(service: str, attribute: str) -> None:
    source = (ROOT / f"src/boat/compute/{service}.py").read_text()
    calls = set(re.findall(rf"(?:{attribute})\.([a-z]+_[a-z_]+)\(", source)) - {"get_paginator"}
    calls |= set(re.findall(r"get_paginator\(\"(\w+)\"\)", source))
    needed = {f"{service}:{''.join(word.title() for word in call.split('_'))}" for call in calls}
    assert len(needed) >= 4, "the pattern still finds the calls"
    granted = json.dumps(RESOURCES["JobsPolicy"]["Properties"]["PolicyDocument"])
    assert sorted(action for action in needed if f'"{action}"' not in granted) == []
    for role in ("TrainRole", "DeployRole"):
        assert {"Ref": "JobsPolicy"} in RESOURCES[role]["Properties"]["ManagedPolicyArns"]


@pytest.mark.parametrize("name", ["flows", "training"])
def test_an_image_has_the_python_and_the_packages_of_the_lock(name: str) -> None:
    text = (ROOT / f"deployments/aws/images/{name}.Dockerfile").read_text()
    first = next(line for line in text.splitlines() if line.startswith("FROM"))
    if name == "flows":
        assert first == "FROM python:3.11-slim-bookworm"
        assert "--require-hashes -r requirements.lock" in text
        assert "USER boat" in text
    else:
        version = re.search(r"tensorflow==([\d.]+)", (ROOT / "pyproject.toml").read_text())
        assert version is not None
        assert first == f"FROM tensorflow/tensorflow:{version[1]}-gpu"
        assert template.load()["Parameters"]["TrainingImage"]["Default"] in first
