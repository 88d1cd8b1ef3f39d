"""A mixed set-up: the warehouse on this machine, jobs on Batch, endpoints on SageMaker. Each seam is chosen alone."""

from pathlib import Path

import pytest
from prefect.states import State

from boat.kinds import INTENT
from boat.serving.base import invoke
from flows.ingestion import ingestion
from flows.promote import promote
from flows.retrain import retrain
from tests.cloud.batch.running import Cloud
from tests.cloud.sagemaker.running_emulator import Emulators
from tests.shops import BRIEF, Shop, client, shop, shop_files

__all__ = ["client", "shop", "shop_files"]  # fixtures

# `make test-cloud` runs it: test_night.py takes the same steps with every back end in the cloud.
pytestmark = [pytest.mark.cloud, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(600)]


def test_flows_run_with_duckdb_and_batch_and_sagemaker(
    shop: Shop, shop_files: Path, cloud: Cloud, sagemaker: Emulators
) -> None:
    seams = {"compute_url": cloud.batch(), "serving_url": sagemaker.url(), "store": cloud.store}
    platform = shop.platform.copy(update=seams)
    platform.save(shop.name, overwrite=True)
    jobs = len(cloud.emulator.jobs)

    ingestion(source=str(shop_files), platform=shop.name)
    retrain(kinds=("intent",), parameters=BRIEF, promote=False, platform=shop.name)
    promoted: State = promote(platform=shop.name, kinds=("intent",), return_state=True)

    assert promoted.message == "intent version 1 answers."
    assert shop.count("marts.fct_sessions") > 0
    assert len(cloud.emulator.jobs) == jobs + 2, "a training and an evaluation"
    assert platform.registry.by_alias(INTENT, "champion").uri.startswith(cloud.store)
    (share,) = invoke(platform.serving.runtime(), INTENT, [[{"event_type": "pageview", "url": "home"}]])
    assert 0 <= share <= 1
