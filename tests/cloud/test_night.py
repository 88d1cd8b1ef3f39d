"""All nightly flows in the cloud, as deployments run by a worker: Snowflake, S3, Batch and SageMaker.

Each service is an emulator that its real client calls over a socket. Only the platform block differs from a laptop's.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from cloudpathlib import S3Path
from prefect import flow, get_client, task
from prefect.settings import PREFECT_DEFAULT_RESULT_STORAGE_BLOCK, temporary_settings
from prefect.states import State
from prefect_aws import AwsCredentials, S3Bucket
from prefect_snowflake import SnowflakeConnector, SnowflakeCredentials

from boat import compute, snapshot, store
from boat.compute import JobSpec
from boat.kinds import RECOMMEND
from boat.models import archive
from boat.models.served import SavedModel
from boat.models.sessions import SessionEvent, instances
from boat.serving.base import invoke
from deployments.demo import follow, promotion_after, start
from tasks.blocks import Platform
from tests.cloud.batch.emulator import Emulator
from tests.cloud.batch.running import BUCKET, Cloud
from tests.cloud.sagemaker.running_emulator import Emulators
from tests.cloud.snowflake.account import NAME, PASSPHRASE, USER, Account, running_account
from tests.installation import Installation, running_installation
from tests.shops import BRIEF, SESSIONS, few_buyers, shop_files

__all__ = ["shop_files"]  # a fixture

pytestmark = [pytest.mark.cloud, pytest.mark.slow, pytest.mark.timeout(900)]

TRAINING = {"seed": 0, "max_minutes": 5, "parameters": BRIEF}


@dataclass(frozen=True)
class CloudNight:
    """State after a night."""

    platform: Platform
    cloud: Cloud
    account: Account
    promoted: str
    jobs: int


def save_platform(installation: Installation, cloud: Cloud, sagemaker: Emulators, account: Account) -> Platform:
    """Save a platform block with all back ends in the cloud, and return it."""
    with account.database().transaction() as transaction:
        database = transaction.query("select current_database() as name")["name"][0].as_py()
    credentials = SnowflakeCredentials(
        account=NAME, user=USER, role="BOAT", private_key=account.key, private_key_passphrase=PASSPHRASE
    )
    credentials.save("cloud", overwrite=True)
    connector = SnowflakeConnector(credentials=credentials, database=database, warehouse="BOAT", schema="RAW")
    connector.save("cloud", overwrite=True)
    seams = {
        "warehouse_url": f"snowflake://cloud?{account.options}",
        "compute_url": cloud.batch(),
        "serving_url": sagemaker.url(),
        "store": cloud.store,
        "reports": store.join(cloud.store, "reports"),
        "reports_url": "https://reports.example",
    }
    platform = Platform.on_laptop(installation.settings, "cloud").copy(update=seams)
    platform.save("cloud", overwrite=True)
    few_buyers().save("intent", overwrite=True)
    return platform


async def run_night(files: Path) -> str:
    """Run `ingestion/hourly`, `retrain/nightly` and its promotion. Return the message of the promotion."""
    block = {"platform": "cloud"}
    async with get_client() as client:
        await follow(client, await start(client, "ingestion/hourly", {**block, "source": str(files)}), "ingestion")
        before = datetime.now(UTC)
        await follow(client, await start(client, "retrain/nightly", {**block, **TRAINING}), "retrain")
        promoted = await follow(client, await promotion_after(client, before), "promote")
    return str(promoted.state.message)


@pytest.fixture(scope="module")
def night(
    tmp_path_factory: pytest.TempPathFactory,
    emulated_jobs: tuple[str, Emulator],
    sagemaker: Emulators,
    shop_files: Path,
) -> Iterator[CloudNight]:
    cloud = Cloud(*emulated_jobs)
    folder = tmp_path_factory.mktemp("night")
    with (
        pytest.MonkeyPatch.context() as patch,
        running_account(tmp_path_factory.mktemp("night-snowflake")) as account,
        running_installation(folder, cloud.environment) as installation,
    ):
        for name, value in installation.environment.items():
            patch.setenv(name, value)
        with installation.as_client():
            platform = save_platform(installation, cloud, sagemaker, account)
            before = len(cloud.emulator.jobs)
            promoted = asyncio.run(run_night(shop_files))
            yield CloudNight(platform, cloud, account, promoted, jobs=len(cloud.emulator.jobs) - before)


@pytest.fixture
def in_the_account(night: CloudNight, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in night.cloud.environment.items():
        monkeypatch.setenv(name, value)


def test_both_endpoints_answer_the_stock_client_with_the_promoted_versions(
    night: CloudNight, sagemaker: Emulators, in_the_account: None
) -> None:
    replaced = r"( instead of version \d+)?"  # of another test on the same emulator
    assert re.fullmatch(
        rf"recommend version 1 answers{replaced}\. intent version 1 answers{replaced}\.", night.promoted
    )
    body = json.dumps({"instances": instances([[{"event_type": "pageview", "url": "home"}]])})
    runtime = sagemaker.client("sagemaker-runtime")
    answer = runtime.invoke_endpoint(EndpointName=RECOMMEND, Body=body, ContentType="application/json")
    (prediction,) = json.loads(answer["Body"].read())["predictions"]
    assert len(prediction["product_id"]) == 20


def test_the_tables_are_in_snowflake_the_models_on_s3_and_the_jobs_ran_on_batch(
    night: CloudNight, in_the_account: None
) -> None:
    (model,) = night.platform.registry.versions(RECOMMEND)
    assert model.uri.startswith(f"{night.cloud.store}/models/recommend-")
    assert model.snapshot_uri.startswith(f"{night.cloud.store}/snapshots/")
    assert night.jobs == 6  # for each kind: training, evaluation, and the fit on all days with its comparison
    assert night.cloud.emulator.active() == []
    assert any("fct_sessions" in statement["sql"].lower() for statement in night.account.history())


def test_results_of_tasks_are_stored_on_s3(night: CloudNight, in_the_account: None) -> None:
    block = S3Bucket(bucket_name=BUCKET, bucket_folder="results", credentials=AwsCredentials())
    block.save("results", overwrite=True)

    @task(persist_result=True)
    def figures() -> dict[str, float]:
        return {"mrr_at_20": 0.25}

    states: list[State] = []

    @flow
    def measuring() -> None:
        states.append(figures(return_state=True))

    with temporary_settings({PREFECT_DEFAULT_RESULT_STORAGE_BLOCK: "s3-bucket/results"}):
        measuring()
    (stored,) = S3Path(f"s3://{BUCKET}/results").iterdir()
    assert stored.name == states[0].data.storage_key.rsplit("/", 1)[-1]
    assert states[0].result() == {"mrr_at_20": 0.25}


def test_a_local_training_on_the_same_snapshot_gives_the_same_recommendations(
    night: CloudNight, tmp_path: Path, in_the_account: None
) -> None:
    (challenger,) = night.platform.registry.versions(RECOMMEND)
    folder = store.fetch(challenger.snapshot_uri, tmp_path / "cache")
    snapshot.read(folder)
    options = {"seed": TRAINING["seed"], "max_seconds": 60 * TRAINING["max_minutes"], **BRIEF["recommend"]}
    parameters = json.dumps(options)
    arguments = {"kind": "recommend", "snapshot": str(folder), "output": str(tmp_path), "parameters": parameters}
    compute.connect("local:").run(JobSpec("train", "boat.models.train", arguments), print)

    sessions = some_sessions(folder, 100)

    def lists(model: Path, name: str) -> list[list[str]]:
        archive.unpack(model, tmp_path / name, archive.digest(model))
        return [answer["product_id"][:10] for answer in SavedModel(tmp_path / name).predict(instances(sessions))]

    # The same seed gives the same model except for rounding, which may swap products with equal scores.
    in_the_cloud = lists(store.fetch(challenger.uri, tmp_path / "cache"), "evaluated")
    assert alike(lists(tmp_path / "model.tar.gz", "local"), in_the_cloud) >= 9.5
    # The endpoint answers with the archive that was fitted again on all days.
    answers = [answer["product_id"][:10] for answer in invoke(night.platform.serving.runtime(), RECOMMEND, sessions)]
    assert alike(lists(store.fetch(challenger.release_uri, tmp_path / "cache"), "released"), answers) >= 9.9


def alike(ours: list[list[str]], theirs: list[list[str]]) -> float:
    """Return the mean number of common products."""
    return sum(len({*a} & {*b}) for a, b in zip(ours, theirs, strict=True)) / len(ours)


def some_sessions(folder: Path, count: int) -> list[list[SessionEvent]]:
    """Return the first sessions of a snapshot."""
    rows = pq.read_table(folder / snapshot.RECOMMEND).to_pylist()
    sessions: dict[str, list[Any]] = {}
    for row in rows:
        sessions.setdefault(row["session_key"], []).append(
            {"event_type": row["event_type"], "product_id": row["product_id"], "event_time": 0.0}
        )
    assert len(sessions) > SESSIONS / 10
    return list(sessions.values())[:count]
