"""`retrain` uses checked data only, `promote` releases better models only, and a release can be rolled back."""

import json
from pathlib import Path

import pytest
import tensorflow as tf
from prefect.states import State

from boat.errors import EndpointError, QualityError, RetrainError, SettingError
from boat.kinds import INTENT, RECOMMEND
from boat.models import archive
from boat.models.sessions import SessionEvent
from boat.registry.tracking import MlflowTracker, Training
from boat.serving import ServedModel
from boat.serving.base import invoke
from flows.ingestion import ingestion
from flows.promote import promote
from flows.retrain import retrain
from tasks.blocks import GatePolicy
from tests.serving.tiny_models import export, recommending
from tests.shops import BRIEF, Shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def without_unknown_products(event_type: tf.Tensor, product_id: tf.Tensor) -> dict[str, tf.Tensor]:
    """Answer like another model, except for the product of the smoke test."""
    is_known = ~tf.reduce_any(tf.strings.regex_full_match(product_id, ".*not in the shop"))
    with tf.control_dependencies([tf.debugging.Assert(is_known, ["broken on purpose"])]):
        return recommending("broken")(event_type, product_id)


def answers(shop: Shop) -> list[str]:
    """Return the recommendations of the live endpoint for a new session."""
    session: list[SessionEvent] = [{"event_type": "pageview", "url": "home"}]
    (answer,) = invoke(shop.platform.serving.runtime(), RECOMMEND, [session])
    return [str(product) for product in answer["product_id"]]


def test_models_are_released_refused_and_rolled_back_and_bad_data_stops_the_training(
    shop: Shop, shop_files: Path, tmp_path: Path
) -> None:
    registry = shop.platform.registry
    ingestion(source=str(shop_files), platform=shop.name)

    # A training that fails does not hold back the other kind. The run fails and its alert names the kind.
    unusable = {"intent": {"model": "boosting", "leaves": 1}}
    with pytest.raises(RetrainError, match="no new model of intent") as caught:
        retrain(parameters={**BRIEF, **unusable}, promote=False, platform=shop.name)
    assert "boat-recommend version 1" in str(caught.value)
    assert "retrain failed" in shop.newest_alert()
    assert "no new model of intent" in shop.newest_alert()
    assert registry.by_alias(INTENT, "challenger") is None
    first = approved(shop)
    assert "recommend version 1 answers" in first.message
    champion = registry.by_alias(RECOMMEND, "champion")
    assert champion.version == "1"
    assert champion.promoted_by == str(first.state_details.flow_run_id)
    assert {"targets", "vmis_knn", "lift", "behaviour"} <= {row["name"] for row in json.loads(champion.gates)}
    assert len(answers(shop)) == 20

    # The evaluated archive was trained on the days before the test. The endpoint serves the one that knows all days.
    assert shop.platform.serving.describe(RECOMMEND).digest == champion.release_digest != champion.digest
    evaluated, released = (archive.read_manifest(Path(uri)) for uri in (champion.uri, champion.release_uri))
    assert evaluated.trained_until == champion.lineage["trained_until"] < champion.lineage["test_from"]
    assert champion.lineage["test_from"] < released.trained_until
    card = shop.installation.api("GET", "/artifacts/model-card-recommend/latest")["data"]
    assert all(digest in card for digest in (champion.digest, champion.release_digest))
    assert "All figures of this card belong to the evaluated archive." in card

    # A weaker challenger is refused. This is not a failure.
    alerts = len(shop.installation.alerts())
    retrain(kinds=("recommend",), recommender="co_occurrence", promote=False, platform=shop.name)
    refused: State = promote(platform=shop.name, kinds=("recommend",), return_state=True)
    assert refused.is_completed()
    assert refused.name == "Refused"
    assert "champion: mrr_at_20" in refused.message
    assert registry.by_alias(RECOMMEND, "champion").version == "1"
    assert len(shop.installation.alerts()) == alerts

    # A challenger that lists products of another shop fails a behaviour test: it is refused and sends an alert.
    planted = export(tmp_path, "recommend", recommending("p"))
    registry.register(Training(RECOMMEND, planted.uri, planted.digest, champion.snapshot_uri, {}, {}, champion.lineage))
    misbehaving: State = promote(platform=shop.name, kinds=("recommend",), return_state=True)
    assert "behaviour only_products_of_the_shop" in misbehaving.message
    assert (
        "boat-recommend: a challenger fails behaviour tests behaviour only_products_of_the_shop" in shop.newest_alert()
    )
    assert registry.by_alias(RECOMMEND, "champion") == champion
    artifact = shop.installation.api("GET", "/artifacts/behaviour-recommend/latest")
    assert '"test": "only products of the shop", "severity": "critical", "passed": "NO"' in artifact["data"]

    # A failed critical expectation stops retrain before its snapshot. The champion is still live.
    before, snapshots = answers(shop), sorted(Path(shop.platform.store, "snapshots").iterdir())
    shop.plant("update marts.fct_session_events set event_time = '2999-01-01' where source_line = 2")
    with pytest.raises(QualityError, match="event_time"):
        retrain(platform=shop.name)
    assert sorted(Path(shop.platform.store, "snapshots").iterdir()) == snapshots
    assert answers(shop) == before
    assert "retrain failed" in shop.newest_alert()
    shop.plant(
        """update marts.fct_session_events as event set event_time = raw.event_time from raw.events as raw
        where event.event_id = raw.event_id and event.event_time = '2999-01-01'"""
    )


def approved(shop: Shop) -> State:
    """Let a person approve version 1, after wrong approvals. Return the state of the run that releases it."""
    before = shop.platform.serving.describe(RECOMMEND)  # of another test on the same endpoint host
    waiting = approve(shop)
    assert waiting.name == "AwaitingApproval"
    assert "promote/approve -p version=1" in waiting.message
    assert "boat-recommend version 1 waits for approval" in shop.newest_alert()
    alerts = len(shop.installation.alerts())
    assert approve(shop).name == "AwaitingApproval"
    assert len(shop.installation.alerts()) == alerts, "a version is announced once"
    evidence = shop.installation.api("GET", "/artifacts/approval-recommend/latest")["data"]
    challenger = shop.platform.registry.get(RECOMMEND, "1")
    assert challenger.release_digest in evidence
    assert "vmis_knn" in evidence
    assert shop.platform.serving.describe(RECOMMEND) == before
    with pytest.raises(SettingError, match=f"releases {challenger.release_digest}, not {challenger.digest}"):
        approve(shop, version=1, digest=challenger.digest)
    GatePolicy(mode="off").save("recommend", overwrite=True)
    off: State = promote(platform=shop.name, kinds=("recommend",), return_state=True)
    assert (off.name, shop.platform.serving.describe(RECOMMEND)) == ("Refused", before)

    first = approve(shop, version=1, digest=challenger.release_digest)
    GatePolicy().save("recommend", overwrite=True)
    return first


def test_an_approval_that_nobody_asked_for_or_that_has_expired_is_refused(shop: Shop, tmp_path: Path) -> None:
    model = export(tmp_path, "recommend", recommending("a"))
    _register(shop, model)
    with pytest.raises(SettingError, match="nobody asked for it"):
        approve(shop, version=1, digest=model.digest)
    client = MlflowTracker(shop.platform.tracking_uri).client
    client.set_model_version_tag(RECOMMEND, "1", "approval_asked_at", "2026-01-01T00:00:00+00:00")
    with pytest.raises(SettingError, match="the request of 2026-01-01 00:00 UTC has expired"):
        approve(shop, version=1, digest=model.digest)
    with pytest.raises(SettingError, match="is of no version"):
        promote(digest=model.digest, kinds=("recommend",), platform=shop.name)


def test_versions_are_released_by_number_and_rolled_back_one_after_the_other(shop: Shop, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _register(shop, export(tmp_path / name, "recommend", recommending(name)))
        state = _promote(shop, version=1 if name == "a" else 2)
    assert "recommend version 2 answers instead of version 1." in state.message
    assert answers(shop)[1] == "b-0"

    back = _promote(shop)
    assert "recommend version 1 answers instead of version 2." in back.message
    assert answers(shop)[1] == "a-0"
    assert shop.platform.registry.by_alias(RECOMMEND, "champion").version == "1"
    again = _promote(shop)  # not forward to version 2
    assert again.name == "Refused"
    assert "recommend: there is no previous version" in again.message
    assert answers(shop)[1] == "a-0"
    with pytest.raises(SettingError, match="every kind has its own versions"):
        promote(alias="previous", version=2, platform=shop.name)


def test_a_failed_smoke_test_restores_the_champion(shop: Shop, tmp_path: Path) -> None:
    _register(shop, export(tmp_path / "a", "recommend", recommending("a")))
    _promote(shop, version=1)
    broken = export(tmp_path / "broken", "recommend", without_unknown_products, version="2")
    _register(shop, broken)
    for interrupted in (False, True):
        if interrupted:  # a run that was killed after its update
            shop.platform.serving.update(RECOMMEND, broken)
        with pytest.raises(EndpointError, match=r"(?s)failed its smoke test.* Version 1 is restored"):
            promote(alias="previous", version=2, kinds=("recommend",), platform=shop.name)
        assert shop.platform.serving.describe(RECOMMEND).version == "1"
        assert answers(shop)[1] == "a-0"
        assert shop.platform.registry.by_alias(RECOMMEND, "champion").version == "1"


def approve(shop: Shop, version: int | None = None, digest: str = "") -> State:
    """Run `promote` with a policy that asks a person."""
    GatePolicy(mode="manual").save("recommend", overwrite=True)
    state: State = promote(version=version, digest=digest, kinds=("recommend",), platform=shop.name, return_state=True)
    state.result()
    return state


def _register(shop: Shop, model: ServedModel) -> None:
    shop.platform.registry.register(Training(RECOMMEND, model.uri, model.digest, "", {}, {}, {}))


def _promote(shop: Shop, version: int | None = None) -> State:
    state: State = promote(
        alias="previous", version=version, kinds=("recommend",), platform=shop.name, return_state=True
    )
    return state
