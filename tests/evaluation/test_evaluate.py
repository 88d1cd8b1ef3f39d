"""The evaluation scores exported archives on days that no model has seen, next to simple models."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from boat import kinds, snapshot
from boat.compute import JobSpec
from boat.compute.local import LocalCompute
from boat.errors import ArtifactError, DataError, JobError
from boat.evaluation import evaluate, gate
from boat.evaluation.behaviour import BehaviourResult
from boat.evaluation.report import (
    CalibrationBin,
    DataReport,
    Difference,
    EvaluationReport,
    ModelReport,
    Slice,
)
from boat.intent.parameters import IntentParameters
from boat.models import examples, sessions
from boat.models.examples import Examples
from boat.models.export import export
from boat.models.train import train
from boat.recommend import baselines
from boat.recommend.parameters import RecommendParameters


class ConstantModel(tf.Module):
    """A model with the same answer to all sessions."""

    def __init__(self, outputs: dict[str, tf.Tensor]) -> None:
        super().__init__()
        self._outputs = outputs

    @tf.function(input_signature=[tf.TensorSpec([None, None], type_, name) for name, type_ in sessions.INPUTS.items()])
    def serve(
        self, event_type: tf.Tensor, product_id: tf.Tensor, url: tf.Tensor, event_time: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        rows = tf.shape(event_type)[0]
        return {
            name: tf.tile(value[None], [rows, 1]) if value.shape.rank else tf.fill([rows], value)
            for name, value in self._outputs.items()
        }


def _constant(path: Path, kind: str, parameters: Mapping[str, float] | None = None, /, **outputs: tf.Tensor) -> Path:
    about = {
        "model": "constant",
        "outputs": {},
        "parameters": parameters or {},
        "metrics": {},
        "snapshot_digest": "",
        "products": 0,
    }
    export(ConstantModel(outputs), path, kind=kind, **about)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def recommend(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("recommend")
    parameters = RecommendParameters(dimensions=32, dropout=0.2, epochs=12, max_seconds=30)
    train(kinds.load("recommend"), shop, output, parameters)
    return output / "model.tar.gz"


def test_a_job_writes_the_metrics_of_challenger_champion_and_baselines(
    shop: Path, recommend: Path, tmp_path: Path
) -> None:
    champion = _constant(
        tmp_path / "champion.tar.gz",
        "recommend",
        product_id=tf.constant([f"p{i}" for i in range(20)]),
        score=tf.linspace(1.0, 0.0, 20),
    )
    arguments = {"model": recommend, "champion": champion, "snapshot": shop, "output": tmp_path / "metrics.json"}
    arguments = {"kind": "recommend", **{name: str(path) for name, path in arguments.items()}}
    LocalCompute().run(JobSpec("evaluate", "boat.evaluation.evaluate", arguments, 120), lambda line: None)
    report = EvaluationReport.from_json((tmp_path / "metrics.json").read_text(), "metrics.json")
    assert (report.data.sessions, report.data.rows["products.parquet"]) == (snapshot.read(shop).sessions, 40)
    metrics = {name: model.metrics for name, model in report.models().items()}
    assert set(metrics) == {"challenger", "champion", "popular", "co_occurrence", "vmis_knn"}
    assert len({values["targets"] for values in metrics.values()}) == 1
    # The next product is certain in this shop, and does not depend on popularity.
    assert metrics["challenger"]["mrr_at_20"] > 0.9
    assert metrics["co_occurrence"]["mrr_at_20"] > 0.9
    assert metrics["popular"]["mrr_at_20"] < 0.3
    assert metrics["champion"]["hr_at_20"] == pytest.approx(0.5, abs=0.1)
    assert metrics["champion"]["coverage_at_20"] == 0.5
    difference = report.challenger.above_champion["mrr_at_20"]
    assert difference.low <= difference.value <= difference.high
    assert difference.value == pytest.approx(metrics["challenger"]["mrr_at_20"] - metrics["champion"]["mrr_at_20"])
    assert gate.decide("recommend", report).misbehaves == ()
    for values in metrics.values():
        assert values["hr_at_5"] <= values["hr_at_10"] <= values["hr_at_20"]
        assert values["mrr_at_20_low"] <= values["mrr_at_20"] <= values["mrr_at_20_high"]
        assert values["hr_at_20_low"] <= values["hr_at_20"] <= values["hr_at_20_high"]


def test_every_item_after_the_first_of_a_session_is_a_target(shop: Path, tmp_path: Path) -> None:
    # A list with one product scores exactly its share among the targets.
    model = _constant(tmp_path / "m", "recommend", product_id=tf.constant(["p3"]), score=tf.constant([1.0]))
    test = examples.read(shop / snapshot.RECOMMEND, snapshot.read(shop).split, "test")
    products = test.strings("product_id")
    targets = np.delete(products, test.offsets[:-1])
    figures = evaluate.evaluate("recommend", model, shop).challenger.metrics
    assert figures["targets"] == len(targets)
    assert figures["mrr_at_20"] == pytest.approx(np.mean(targets == "p3"))


def test_unknown_products_are_misses(shop: Path, tmp_path: Path) -> None:
    unknown = _constant(tmp_path / "m", "recommend", product_id=tf.constant(["x", "y"]), score=tf.constant([1.0, 0.5]))
    figures = evaluate.evaluate("recommend", unknown, shop).challenger.metrics
    assert figures["hr_at_20"] == figures["coverage_at_20"] == 0


def test_intent_is_compared_with_the_base_rate_and_event_counts(shop: Path, tmp_path: Path) -> None:
    train(kinds.load("intent"), shop, tmp_path, IntentParameters(model="boosting", members=4))
    constant = _constant(tmp_path / "constant.tar.gz", "intent", purchase=tf.constant(0.4))
    report = evaluate.evaluate("intent", tmp_path / "model.tar.gz", shop, constant)
    assert set(report.baselines) == {"base_rate", "logistic"}
    assert [result.name for result in report.challenger.behaviour if not result.passed] == []
    challenger, champion = report.challenger.metrics, report.champion.metrics
    base_rate, logistic = (report.baselines[name].metrics for name in ("base_rate", "logistic"))
    assert challenger["pr_auc"] > challenger["base_rate"] + 0.15
    assert challenger["ece"] < champion["ece"]  # ten groups of 17 sessions: chance alone causes an error of 0.09
    assert challenger["log_loss"] < base_rate["log_loss"] < champion["log_loss"]
    assert logistic["pr_auc"] > champion["pr_auc"]
    assert champion["pr_auc"] == pytest.approx(champion["base_rate"])
    assert champion["roc_auc"] == pytest.approx(0.5)
    assert champion["ece"] == pytest.approx(abs(0.4 - champion["base_rate"]), abs=1e-6)
    assert sum(row.count for row in report.challenger.calibration) == challenger["targets"]
    assert challenger["pr_auc_low"] < challenger["pr_auc"] < challenger["pr_auc_high"]
    assert challenger["lift_at_10"] > 1.3 > base_rate["lift_at_10"] == pytest.approx(1)
    # No session adds to the cart with its first event.
    assert report.challenger.moments["1"]["pr_auc"] < report.challenger.moments["4"]["pr_auc"]


def test_intent_is_scored_at_the_first_product_in_the_cart(shop: Path, tmp_path: Path) -> None:
    constant = _constant(tmp_path / "constant.tar.gz", "intent", purchase=tf.constant(0.4))
    after = evaluate.evaluate("intent", constant, shop).challenger.moments
    assert list(after) == ["1", "2", "4", "6", "end", "add_to_cart"]
    # Three in ten sessions add, and nine in ten of these buy. No other session buys.
    assert after["add_to_cart"]["base_rate"] == pytest.approx(0.8)  # 0.9 in the rule of the shop
    assert after["add_to_cart"]["purchases"] == after["end"]["purchases"] == after["1"]["purchases"]
    assert after["add_to_cart"]["targets"] < after["end"]["targets"] == after["1"]["targets"]


@pytest.mark.parametrize(("chance", "contacted"), [(0.11, 1.0), (0.09, 0.0)])
def test_sessions_whose_expected_sale_exceeds_the_cost_are_contacted(
    shop: Path, tmp_path: Path, chance: float, contacted: float
) -> None:
    parameters = {"contact_cost": 2.0, "sale_value": 20.0}
    model = _constant(tmp_path / "m.tar.gz", "intent", parameters, purchase=tf.constant(chance))
    challenger = evaluate.evaluate("intent", model, shop).challenger
    decision = challenger.contacts
    assert (decision["threshold"], decision["contacted"]) == (pytest.approx(0.1), contacted)
    assert decision["buyers_contacted"] == contacted
    assert decision["gain_contacting_all"] == pytest.approx(20 * challenger.metrics["base_rate"] - 2)
    assert decision["gain"] == pytest.approx(contacted * decision["gain_contacting_all"])


def test_a_report_is_the_same_after_writing_and_reading() -> None:
    result = BehaviourResult("no_product_twice", "critical", None, 0.0, "at most", True, "A repeated product.")
    model = ModelReport(
        {"targets": 3, "mrr_at_20": 0.25},
        (Slice("shop", "north", 2, {"mrr_at_20": 0.5}),),
        {"add_to_cart": {"pr_auc": 0.5}},
        (CalibrationBin(3, 0.1, 0.2),),
        {"gain": 0.5},
        {"mrr_at_20": Difference(0.1, -0.1, 0.3)},
        (result,),
    )
    data = DataReport("2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04", "by days", 5, {"intent.parquet": 7})
    report = EvaluationReport(model, model, {"popular": ModelReport({"mrr_at_20": 0.1})}, data)
    assert EvaluationReport.from_json(report.to_json(), "report.json") == report


def test_a_metric_that_is_not_finite_is_null_in_the_file_and_missing_after_reading() -> None:
    text = EvaluationReport(ModelReport({"ece": math.nan, "lift": math.inf, "brier": 0.1})).to_json()
    assert json.loads(text)["challenger"]["metrics"] == {"ece": None, "lift": None, "brier": 0.1}
    assert EvaluationReport.from_json(text, "report.json").challenger.metrics == {"brier": 0.1}


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "no JSON",
        '{"challenger": {"mrr_at_20": 0.3, "behaviour": []}, "champion": null, "popular": {}}',
        EvaluationReport(ModelReport({})).to_json().replace('"metrics": {}', '"metrics": {"mrr_at_20": "0.3"}'),
    ],
    ids=["a list", "no JSON", "of an older version", "a metric as text"],
)
def test_a_file_that_is_not_a_report_is_refused_with_the_next_step(text: str) -> None:
    with pytest.raises(DataError, match=r"store/report\.json is not an evaluation report.*Delete the file"):
        EvaluationReport.from_json(text, "store/report.json")


def test_a_model_of_another_kind_is_refused(shop: Path, recommend: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="kind recommend, not intent"):
        evaluate.evaluate("intent", recommend, shop)
    arguments = {"kind": "intent", "model": str(recommend), "snapshot": str(shop), "output": str(tmp_path / "m.json")}
    with pytest.raises(JobError, match=r"ArtifactError.*kind recommend"):
        LocalCompute().run(JobSpec("evaluate", "boat.evaluation.evaluate", arguments), lambda line: None)
    assert not (tmp_path / "m.json").exists()


def test_popular_lists_the_most_frequent_without_the_current() -> None:
    learned = Examples(np.array([2, 1, 2, 1, 2, 1, 1, 3, 1, 3, 1, 2]), np.arange(0, 13, 2))
    ranked = baselines.Popular(learned, 3).recommend(np.array([[0, 0], [1, 0]]))
    assert ranked.products[:, :4].tolist() == [[1, 3, 2, -1], [3, 2, -1, -1]]


def test_co_occurrence_by_hand() -> None:
    # Product 2 follows 1 twice. Product 3 follows 2 once, and 1 once in two steps.
    learned = Examples(np.array([1, 2, 1, 2, 3]), np.array([0, 2, 5]))
    ranked = baselines.CoOccurrence(learned, 4).recommend(np.array([[1, 0], [2, 1], [4, 0]]))
    assert ranked.products[0, :2].tolist() == [2, 3]
    assert ranked.scores[0, :2] == pytest.approx([2.0, 0.8], abs=1e-5)
    assert ranked.products[1, 0] == 3  # product 2 is the current one
    assert ranked.scores[1, 0] == pytest.approx(1.0 + 0.8 * 0.8, abs=1e-5)
    assert ranked.products[2, :2].tolist() == [2, 3]  # product 4 has no followers, so the list is by popularity


@pytest.mark.soak
def test_real_sessions_are_predicted_better_than_by_co_occurrence(
    public_data: Callable[[str], Path], tmp_path: Path, snapshot_of_views: Callable[[Path], Path]
) -> None:
    snapshot_folder = snapshot_of_views(public_data("serenade_bol") / "events.parquet")
    train(kinds.load("recommend"), snapshot_folder, tmp_path, RecommendParameters(epochs=2, refit_epochs=1))
    figures = evaluate.evaluate("recommend", tmp_path / "model.tar.gz", snapshot_folder)
    assert figures.challenger.metrics["hr_at_20"] > 0.6
    co_occurrence = figures.baselines["co_occurrence"]
    assert figures.challenger.metrics["mrr_at_20"] > 1.2 * co_occurrence.metrics["mrr_at_20"]
