"""Blocks, work pool and deployments registered from a stack, and a run on ECS, started by Prefect's ECS worker."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import yaml

from boat.errors import SettingError
from deployments.aws import register, template
from deployments.aws.deploy import Stack
from deployments.services import START_SECONDS
from tests.cloud.infra.moto_gaps import for_moto
from tests.cloud.infra.test_stack import GIVEN, create_directly
from tests.conftest import ROOT
from tests.serving.running_host import free_port

pytestmark = [pytest.mark.cloud, pytest.mark.slow]

PROGRAMS = Path(sys.executable).parent
SNOWFLAKE = {
    "account": "shop-eu",
    "user": "boat",
    "role": "boat",
    "warehouse": "boat",
    "database": "boat",
    "private_key": "-----BEGIN PRIVATE KEY-----\nonly-a-test\n-----END PRIVATE KEY-----\n",
}
SLACK = "https://hooks.slack.example/services/T0/B0/only-a-test"
SECONDS = 45


@pytest.fixture(scope="module")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start an empty Prefect server and yield the address of its API."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    command = [PROGRAMS / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "log").open("wb") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server:
        api = f"http://127.0.0.1:{port}/api"
        try:
            eventually(lambda: _answers(f"{api}/health"), START_SECONDS)
            yield api
        finally:
            server.terminate()


@pytest.fixture
def environment(aws: boto3.Session, prefect_api: str, tmp_path: Path) -> dict[str, str]:
    """Create a stack and its secrets. Return the environment of the task `boat-register` and the worker."""
    create_directly(Stack(aws), for_moto(template.load()), {**GIVEN, "ImageTag": "current"})
    secrets = boto3.client("secretsmanager")
    # moto creates no secrets from a template, so they are created with the names in the outputs.
    outputs = Stack(aws).outputs()
    for name, text in (("SnowflakeSecret", json.dumps(SNOWFLAKE)), ("SlackSecret", SLACK)):
        secrets.create_secret(Name=outputs[name], SecretString=text)
    _complete("boat-load")
    return {**os.environ, "PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(tmp_path / "prefect")}


def _complete(family: str) -> None:
    """Set attributes of the network and the task definition that moto does not create from a template."""
    ec2 = boto3.client("ec2")
    for vpc in ec2.describe_vpcs()["Vpcs"]:
        ec2.modify_vpc_attribute(VpcId=vpc["VpcId"], EnableDnsHostnames={"Value": True})
    ecs = boto3.client("ecs")
    definition = ecs.describe_task_definition(taskDefinition=family)["taskDefinition"]
    ecs.register_task_definition(
        family=family,
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="1024",
        memory="4096",
        containerDefinitions=[{**container, "memory": 4096} for container in definition["containerDefinitions"]],
    )


def eventually(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.3)
    raise TimeoutError


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def run_register(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "deployments.aws.register"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def ask(api: str, path: str, **body: Any) -> Any:
    answer = httpx.post(f"{api}{path}", json=body, timeout=30)
    answer.raise_for_status()
    return answer.json()


def test_a_registered_deployment_runs_with_its_role_and_edits_are_preserved(
    environment: dict[str, str], prefect_api: str, tmp_path: Path
) -> None:
    done = run_register(environment)
    assert done.returncode == 0, done.stderr
    assert "only-a-test" not in done.stdout + done.stderr, "a secret was printed"

    registered = {deployment["name"]: deployment for deployment in ask(prefect_api, "/deployments/filter")}
    declared = yaml.safe_load((ROOT / register.PREFECT_FILE).read_text())["deployments"]
    assert set(registered) == {deployment["name"] for deployment in declared}
    assert {deployment["work_pool_name"] for deployment in registered.values()} == {"boat-ecs"}

    run = ask(prefect_api, f"/deployments/{registered['hourly']['id']}/create_flow_run", state={"type": "SCHEDULED"})
    command = [PROGRAMS / "prefect", "worker", "start", "--pool", "boat-ecs", "--run-once"]
    log = tmp_path / "worker.log"
    with (
        log.open("wb") as lines,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=lines, stderr=lines) as worker,
    ):
        try:
            _assert_started(Stack(boto3.Session()).outputs(), run["id"])
        except TimeoutError:
            pytest.fail(log.read_text())
        finally:
            worker.kill()
    _assert_edits_are_preserved(environment, prefect_api)


def _assert_started(outputs: dict[str, str], run: str) -> None:
    ecs = boto3.client("ecs")
    (arn,) = eventually(lambda: ecs.list_tasks(cluster="boat")["taskArns"])
    (task,) = ecs.describe_tasks(cluster="boat", tasks=[arn])["tasks"]
    assert "task-definition/boat-load:" in task["taskDefinitionArn"]
    (container,) = task["overrides"]["containerOverrides"]
    assert {"name": "PREFECT__FLOW_RUN_ID", "value": run.replace("-", "")} in [
        {**variable, "value": variable["value"].replace("-", "")} for variable in container["environment"]
    ]
    interface = {detail["name"]: detail["value"] for detail in task["attachments"][0]["details"]}
    assert interface["subnetId"] in outputs["TaskSubnetIds"].split(",")


def _assert_edits_are_preserved(environment: dict[str, str], prefect_api: str) -> None:
    """Register again: a new key is used, and edits of the platform block in the UI are kept."""

    def block(kind: str, name: str) -> dict[str, Any]:
        path = f"{prefect_api}/block_types/slug/{kind}/block_documents/name/{name}"
        answer = httpx.get(path, params={"include_secrets": True}, timeout=30)
        answer.raise_for_status()
        content: dict[str, Any] = answer.json()
        return content

    before = block("boat-platform", "default")
    edited = {"data": {**before["data"], "compute_url": "ecs://boat/boat-train-cpu"}, "merge_existing_data": True}
    httpx.patch(f"{prefect_api}/block_documents/{before['id']}", json=edited, timeout=30).raise_for_status()
    boto3.client("secretsmanager").put_secret_value(
        SecretId=Stack(boto3.Session()).outputs()["SnowflakeSecret"],
        SecretString=json.dumps({**SNOWFLAKE, "private_key": SNOWFLAKE["private_key"].replace("only", "still-only")}),
    )
    assert run_register(environment).returncode == 0
    assert block("boat-platform", "default")["data"]["compute_url"] == "ecs://boat/boat-train-cpu"
    assert "still-only" in str(block("snowflake-credentials", "boat")["data"]["private_key"])


def test_an_incomplete_secret_is_named_but_never_printed(environment: dict[str, str]) -> None:
    session = boto3.Session()
    outputs = Stack(session).outputs()
    client = boto3.client("secretsmanager")
    client.put_secret_value(SecretId=outputs["SnowflakeSecret"], SecretString='{"user": "hush"}')
    with pytest.raises(SettingError, match="lacks account, role") as caught:
        register.Secrets.read(session, outputs)
    assert "hush" not in str(caught.value)
    client.put_secret_value(SecretId=outputs["SnowflakeSecret"], SecretString="hush")
    with pytest.raises(SettingError, match="an object of JSON") as caught:
        register.Secrets.read(session, outputs)
    assert "hush" not in str(caught.value)
