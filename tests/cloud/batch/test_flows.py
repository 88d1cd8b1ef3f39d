"""The laptop's flows with three lines of a block changed: models from Batch, artifacts and task results on S3."""

from pathlib import Path

import pytest
from cloudpathlib import S3Path
from prefect import flow, task
from prefect.settings import PREFECT_DEFAULT_RESULT_STORAGE_BLOCK, temporary_settings
from prefect.states import State
from prefect_aws import AwsCredentials, S3Bucket

from boat.registry import Registry
from boat.settings import RECOMMEND
from flows.ingestion import ingestion
from flows.promote import promote
from flows.retrain import retrain
from tests.cloud.batch.running import BUCKET, Cloud
from tests.shops import BRIEF, Shop, client, shop, shop_files

__all__ = ["client", "shop", "shop_files"]  # fixtures

pytestmark = [pytest.mark.cloud, pytest.mark.slow]


def test_a_night_with_jobs_on_batch_and_everything_on_s3(cloud: Cloud, shop: Shop, shop_files: Path) -> None:
    place = shop.platform.copy(update={"store": cloud.store, "compute_url": cloud.batch(price=0.5)})
    place.save(shop.name, overwrite=True)
    ingestion(source=str(shop_files), platform=shop.name)
    retrain(parameters=BRIEF, promote=False, platform=shop.name)
    assert len(cloud.emulator.jobs) == 4  # a training and an evaluation of each kind
    challenger = Registry(place.tracking_uri).by_alias(RECOMMEND, "challenger")
    assert challenger is not None
    assert challenger.uri.startswith(f"{cloud.store}/models/recommend-")
    assert challenger.lineage["snapshot_uri"].startswith(f"{cloud.store}/snapshots/")
    released: State = promote(platform=shop.name, models=("recommend",), return_state=True)
    assert "recommend version 1 answers" in released.message
    assert len(cloud.emulator.jobs) == 4  # compared with nobody before, and not again
    assert cloud.emulator.active() == []


def test_results_of_tasks_are_kept_on_s3(cloud: Cloud, client: None) -> None:
    block = S3Bucket(bucket_name=BUCKET, bucket_folder="results", credentials=AwsCredentials())
    block.save("results", overwrite=True)

    @task(persist_result=True)
    def figures() -> dict[str, float]:
        return {"mrr_at_20": 0.25}

    kept: list[State] = []

    @flow
    def measuring() -> None:
        kept.append(figures(return_state=True))

    with temporary_settings({PREFECT_DEFAULT_RESULT_STORAGE_BLOCK: "s3-bucket/results"}):
        measuring()
    (stored,) = S3Path(f"s3://{BUCKET}/results").iterdir()
    assert stored.name == kept[0].data.storage_key.rsplit("/", 1)[-1]
    assert kept[0].result() == {"mrr_at_20": 0.25}
