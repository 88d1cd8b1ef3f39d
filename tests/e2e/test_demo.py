"""The demo as a user runs it: deployments, a worker, endpoints, and the `prefect` command."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import boto3
import pytest

from boat.kinds import RECOMMEND
from boat.models.sessions import instances
from tests.installation import Installation
from tests.shops import few_buyers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def demo(installation: Installation, shop_files: Path) -> str:
    """Run `make demo EVENTS=…` and return its output."""
    with installation.as_client():
        few_buyers().save("intent", overwrite=True)
    ran = installation.command("python", "-m", "deployments.demo", "--events", str(shop_files), timeout=800)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return str(ran.stdout)


def test_the_demo_prints_ten_named_products_an_intent_and_the_addresses(demo: str, installation: Installation) -> None:
    recommended = re.findall(r"^ +\d+\. (.+)$", demo, re.MULTILINE)
    assert len(recommended) == len(set(recommended)) == 10
    assert not [name for name in recommended if name.startswith("product ")]
    assert re.search(r"^Purchase intent: \d+\.\d%$", demo, re.MULTILINE)
    assert installation.settings.prefect_ui_url in demo
    assert installation.settings.endpoint_url in demo
    assert installation.settings.collect_url in demo


def test_the_endpoint_answers_the_stock_sagemaker_client(demo: str, installation: Installation) -> None:
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=installation.settings.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    body = json.dumps({"instances": instances([[{"event_type": "pageview", "url": "home"}]])})
    answer = client.invoke_endpoint(EndpointName=RECOMMEND, Body=body, ContentType="application/json")
    (prediction,) = json.loads(answer["Body"].read())["predictions"]
    assert len(prediction["product_id"]) == 20
    assert prediction["score"] == sorted(prediction["score"], reverse=True)


def test_the_prefect_command_works(demo: str, installation: Installation) -> None:
    listed = installation.command("prefect", "deployment", "ls")
    names = ("ingestion/hourly", "retrain/nightly", "promote/latest", "promote/rollback")
    assert all(name in listed.stdout for name in names)
    rollback = installation.command("prefect", "deployment", "run", "promote/rollback", "--watch", timeout=120)
    assert rollback.returncode == 0, rollback.stdout + rollback.stderr
    assert "finished successfully" in rollback.stdout


@pytest.mark.parametrize("parameter", ["days=thirty", "days=1", "recommender=best", "unknown=1"])
def test_a_run_with_wrong_parameters_is_not_created(demo: str, installation: Installation, parameter: str) -> None:
    runs = installation.api("POST", "/flow_runs/count", json={})
    refused = installation.command("prefect", "deployment", "run", "retrain/nightly", "-p", parameter)
    assert refused.returncode != 0
    assert parameter.split("=", maxsplit=1)[0] in refused.stdout + refused.stderr
    assert installation.api("POST", "/flow_runs/count", json={}) == runs


def test_schedules_start_an_hourly_ingestion_and_a_nightly_training(demo: str, installation: Installation) -> None:
    deployments = installation.api("POST", "/deployments/filter", json={})
    crons = {
        deployment["name"]: schedule["schedule"]["cron"]
        for deployment in deployments
        for schedule in deployment["schedules"]
        if schedule["active"]
    }
    assert crons == {"hourly": "7 * * * *", "nightly": "30 2 * * *"}
    scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "limit": 200}
    of_future = {run["deployment_id"] for run in installation.api("POST", "/flow_runs/filter", json=scheduled)}
    assert {deployment["id"] for deployment in deployments if deployment["name"] in crons} <= of_future


def test_every_step_has_an_artifact_and_every_run_a_name(demo: str, installation: Installation) -> None:
    artifacts = installation.api("POST", "/artifacts/latest/filter", json={"limit": 200})
    keys = {artifact["key"] for artifact in artifacts}
    assert {"events-loaded", "dbt-nodes", "quality", "data-docs", "kpis", "kpi-report", "snapshot"} <= keys
    assert {"learning-curve-recommend", "model-card-recommend", "gates-recommend"} <= keys
    assert {"learning-curve-intent", "model-card-intent", "gates-intent"} <= keys
    curve = next(artifact for artifact in artifacts if artifact["key"] == "learning-curve-recommend")
    assert "data:image/svg+xml;base64," in curve["data"]
    runs = installation.api("POST", "/flow_runs/filter", json={"limit": 50})
    assert [run for run in runs if re.fullmatch(r"retrain \d{4}-\d\d-\d\d \d\d:\d\d", run["name"])]


def test_status_names_every_service(demo: str, installation: Installation) -> None:
    status = installation.command("python", "-m", "deployments.services", "status")
    assert status.returncode == 0
    assert status.stdout.count("RUNNING") == 5


@pytest.mark.ui
def test_a_browser_shows_the_run_in_the_prefect_ui(demo: str, installation: Installation, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium on this machine")
    url = re.search(r"^retrain/nightly  (http\S+)$", demo, re.MULTILINE).group(1)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    options += ["--disable-component-update", f"--user-data-dir={tmp_path}", "--virtual-time-budget=30000"]
    command = [browser, *options, "--dump-dom", url]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "retrain 20" in dom
    assert "Completed" in dom
