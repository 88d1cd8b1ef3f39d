"""The exported recommender takes the events of a session as sent, and returns products."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boat import kinds, snapshot
from boat.compute import JobSpec
from boat.compute.local import LocalCompute
from boat.compute.progress import parse
from boat.errors import DataError, JobError
from boat.models import archive, examples, sessions
from boat.models.export import export
from boat.models.served import SavedModel
from boat.models.sessions import SessionEvent
from boat.recommend.graph import OUTPUTS, RecommendGraph
from boat.recommend.parameters import RecommendParameters
from boat.recommend.scores import PopularScores

QUICK = '{"dimensions": 32, "epochs": 12, "max_seconds": 30, "dropout": 0.2}'

Recommend = Callable[..., list[Mapping[str, Any]]]


@pytest.fixture(scope="module")
def job(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Run a training job and return its output folder and lines."""
    output, lines = tmp_path_factory.mktemp("job"), []
    arguments = {"kind": "recommend", "snapshot": str(shop), "output": str(output), "parameters": QUICK}
    LocalCompute().run(JobSpec("train", "boat.models.train", arguments, timeout_seconds=120), lines.append)
    return output, lines


@pytest.fixture(scope="module")
def model(job: tuple[Path, list[str]]) -> SavedModel:
    path = job[0] / "model.tar.gz"
    archive.unpack(path, job[0] / "unpacked", archive.digest(path))
    return SavedModel(job[0] / "unpacked")


@pytest.fixture(scope="module")
def recommend(model: SavedModel) -> Recommend:
    def answer(*sessions_of_products: list[str | SessionEvent]) -> list[Mapping[str, Any]]:
        events = [
            [_viewed(event) if isinstance(event, str) else event for event in session]
            for session in sessions_of_products
        ]
        answers: list[Mapping[str, Any]] = model.predict(sessions.instances(events))
        return answers

    return answer


def _viewed(product: str) -> SessionEvent:
    return {"event_type": "detail", "product_id": product, "url": "/", "event_time": 1.0}


def test_the_model_learns_the_rule_of_the_shop(recommend: Recommend) -> None:
    answers = recommend(*([f"p{i}", f"p{i + 1}"] for i in range(38)))
    is_next = [answer["product_id"][0] == f"p{i + 2}" for i, answer in enumerate(answers)]
    assert np.mean(is_next) > 0.9


def test_the_job_reports_each_epoch(job: tuple[Path, list[str]]) -> None:
    epochs = [epoch for line in job[1] if (epoch := parse(line))]
    assert json.loads((job[0] / "curve.json").read_text()) == epochs
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, len(epochs) + 1))
    assert {"loss", "validation_mrr", "seconds", "events_per_second"} <= epochs[0].keys()
    best = max(epochs, key=lambda epoch: epoch["validation_mrr"])
    metrics = json.loads((job[0] / "metrics.json").read_text())
    assert metrics["best_epoch"] == best["epoch"]
    assert min(metrics["validation_mrr"], best["validation_mrr"]) > 0.8


def test_the_manifest_has_the_origin_of_the_model(model: SavedModel, shop: Path) -> None:
    assert model.kind == "recommend"
    assert model.manifest.snapshot_digest == snapshot.read(shop).digest
    assert model.manifest.products == 40
    assert model.manifest.parameters["dimensions"] == 32
    assert model.manifest.inputs == sessions.INPUTS


def test_a_list_has_twenty_different_products_by_descending_score_without_the_current_one(recommend: Recommend) -> None:
    for i, answer in enumerate(recommend(*([f"p{i}", f"p{(i * 7) % 40}"] for i in range(40)))):
        assert len(set(answer["product_id"])) == 20
        assert f"p{(i * 7) % 40}" not in answer["product_id"]
        assert answer["score"] == sorted(answer["score"], reverse=True)


def test_padding_other_events_and_unknown_products_change_nothing(recommend: Recommend) -> None:
    page: SessionEvent = {"event_type": "pageview", "product_id": "p9", "url": "/", "event_time": 1.0}
    removed: SessionEvent = {"event_type": "remove", "product_id": "p9", "event_time": 1.0}
    nothing: SessionEvent = {"event_type": "", "product_id": "p9"}
    (plain,) = recommend(["p3", "p4"])
    dressed = recommend(
        [page, "p3", nothing, "p4", removed, page],
        ["p3", "nobody knows this", "p4"],
        ["p3", "p3", "p4", "p4", "p4"],
        ["p3", "p4", *[nothing] * 30],
    )
    for answer in dressed:
        assert answer["product_id"] == plain["product_id"]
        assert answer["score"] == pytest.approx(plain["score"], abs=1e-5)


VIEWED = ("detail", "view", "Detail", " DETAIL ", "View Item", "product-viewed")
ADDED = ("add", "add_to_cart", "Add to Cart", "ADDTOCART", " cart\t")


@pytest.mark.parametrize("product", ["p4", " p4 ", "\u00a0p4\n"])
@pytest.mark.parametrize("types", [*zip(VIEWED, ADDED, strict=False), ("detail", "select_item"), ("click", "buy")])
def test_types_and_ids_are_understood_in_every_spelling(
    model: SavedModel, recommend: Recommend, types: tuple[str, str], product: str
) -> None:
    (plain,) = recommend(["p3", "p4"])
    columns = {
        "event_type": np.array([[name.encode() for name in types]], object),
        "product_id": np.array([[b"p3", product.encode()]], object),
        "url": np.array([[b"", b""]], object),
        "event_time": np.zeros((1, 2)),
    }
    answer = model.score(columns)  # the signature that the stock image serves
    assert [name.decode() for name in answer["product_id"][0]] == plain["product_id"]
    assert answer["score"][0].tolist() == plain["score"]


def test_words_for_missing_refunds_and_unused_types_change_nothing(recommend: Recommend) -> None:
    (plain,) = recommend(["p3", "p4"])
    missing = [_viewed(word) for word in ("undefined", "(not set)", "NULL", " NaN ", "\\N")]
    unused_events: list[SessionEvent] = [
        {"event_type": name, "product_id": "p9", "url": "/category/9"}
        for name in ("refund", "Order Refunded", "scroll", "Session Start", " ")
    ]
    for answer in recommend(["p3", "p4", *missing], ["p3", "p4", *unused_events]):
        assert answer["product_id"] == plain["product_id"]
        assert answer["score"] == pytest.approx(plain["score"], abs=1e-5)


def test_only_a_known_current_product_is_left_out(recommend: Recommend) -> None:
    after_known, after_unknown = recommend(["p3", "p4"], ["p3", "p4", "unknown"])
    assert "p4" not in after_known["product_id"]
    assert set(after_known["product_id"][:19]) <= {*after_unknown["product_id"], "p4"}
    assert after_known["product_id"][0] in after_unknown["product_id"]


def test_sessions_without_a_known_product_get_the_most_popular(recommend: Recommend, shop: Path) -> None:
    fit = examples.read(shop / snapshot.RECOMMEND, snapshot.read(shop).split, "fit")
    popular = fit.vocabulary("product_id")[0][:20].tolist()
    page: SessionEvent = {"event_type": "pageview", "url": "/", "event_time": 1.0}
    for answer in recommend([], [page], ["unknown"], ["", ""], [{}]):
        assert answer["product_id"] == popular
        assert answer["score"] == sorted(answer["score"], reverse=True)


def test_an_instance_without_events_is_answered(model: SavedModel) -> None:
    (answer,) = model.predict([{name: [] for name in sessions.INPUTS}])
    assert len(answer["product_id"]) == 20


def test_only_the_last_of_ten_thousand_events_count(recommend: Recommend) -> None:
    last = [f"p{i}" for i in range(RecommendParameters.window)]
    long, short = recommend([f"p{i % 30}" for i in range(10_000 - len(last))] + last, last)
    assert long["product_id"] == short["product_id"]


def test_sessions_of_a_request_do_not_affect_each_other(recommend: Recommend) -> None:
    alone = [recommend([f"p{i}"])[0]["product_id"] for i in range(5)]
    together = recommend(*([f"p{i}"] for i in range(5)), ["p1"] * 50)
    assert [answer["product_id"] for answer in together[:5]] == alone


def test_a_fresh_process_gives_the_same_answers(job: tuple[Path, list[str]], recommend: Recommend) -> None:
    code = f"""
import json
from pathlib import Path
from boat.models import sessions
from boat.models.served import SavedModel
model = SavedModel(Path({str(job[0] / "unpacked")!r}))
model.warm()
event = {{"event_type": "detail", "product_id": "p3"}}
print(json.dumps(model.predict(sessions.instances([[event]]))))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=60)
    assert json.loads(answer.stdout)[0]["product_id"] == recommend(["p3"])[0]["product_id"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"product_id": None}, "inputs"),
        ({"color": ["red"]}, "inputs"),
        ({"product_id": ["p1", "p2"]}, "product_id"),
        ({"product_id": "p1"}, "product_id"),
        ({"product_id": [["p1"]]}, "'product_id' of instance 1, event 0 is a list: an id is text or a number"),
        ({"product_id": [{"id": "p1"}]}, "'product_id' .* is an object"),
        ({"product_id": [False]}, "'product_id' .* is a boolean"),
        ({"product_id": ["\ud800"]}, "product_id"),
        ({"url": [7]}, "'url' .* is int, not text"),
        ({"event_time": ["now"]}, "'event_time' .* is not a time"),
        ({"event_time": [True]}, "'event_time' .* is a boolean, not a time"),
        ({"event_time": [[1]]}, "'event_time' .* is a list, not a time"),
        ({"event_time": [float("nan")]}, "not a finite number"),
        ({"event_time": [10**400]}, "not a finite number"),
        ({"event_type": [["detail"]]}, "'event_type' .* is list, not text"),
        ({"event_type": [None]}, "'event_type' .* not text"),
    ],
)
def test_a_malformed_instance_is_refused_by_name(model: SavedModel, change: dict[str, Any], message: str) -> None:
    (good,) = sessions.instances([[_viewed("p1")]])
    bad = {name: value for name, value in {**good, **change}.items() if value is not None}
    with pytest.raises(DataError, match=message):
        model.predict([good, bad])


def test_an_id_is_the_same_as_a_number_and_as_text(tmp_path: Path) -> None:
    names = np.array(["355908", "7", "p1", "p2"], object)
    shares = np.array([0.4, 0.3, 0.2, 0.1], np.float32)
    graph = RecommendGraph(PopularScores(shares), names, shares, window=3)
    about: dict[str, Any] = {"kind": "recommend", "model": "", "outputs": OUTPUTS, "parameters": {}, "metrics": {}}
    digest = export(graph, tmp_path / "model.tar.gz", **about, snapshot_digest="", products=4)
    archive.unpack(tmp_path / "model.tar.gz", tmp_path / "model", digest)
    model = SavedModel(tmp_path / "model")
    (plain,) = sessions.instances([[_viewed("355908")]])
    spellings = (355908, 355908.0, "355908.0", " 355908 ", "\ufeff355908.0\n")
    answers = model.predict([plain, *({**plain, "product_id": [spelled]} for spelled in spellings)])
    assert answers[0]["product_id"] == ["7", "p1", "p2"]
    assert answers == answers[:1] * len(answers)
    missing = model.predict([{**plain, "product_id": [nothing]} for nothing in (None, "", "none", float("nan"))])
    assert [answer["product_id"][0] for answer in missing] == ["355908"] * 4
    assert sessions.instances([[{"event_type": "detail", "product_id": 355908.0}]])[0]["product_id"] == ["355908"]


@pytest.mark.parametrize("instances", [[], {}, "x", None, [1], [[]]])
def test_a_request_that_is_not_a_list_of_instances_is_refused(model: SavedModel, instances: Any) -> None:
    with pytest.raises(DataError):
        model.predict(instances)


def test_a_small_shop_gets_short_lists(shop_snapshot: Callable[..., Path], tmp_path: Path) -> None:
    from boat.models.train import train

    small = shop_snapshot(products=5, sessions=120)
    train(kinds.load("recommend"), small, tmp_path, RecommendParameters(dimensions=8, epochs=2, max_seconds=20))
    archive.unpack(tmp_path / "model.tar.gz", tmp_path / "m", archive.digest(tmp_path / "model.tar.gz"))
    model = SavedModel(tmp_path / "m")
    after_known, after_unknown = model.predict(sessions.instances([[_viewed("p1")], [_viewed("new")]]))
    assert sorted(after_known["product_id"]) == ["p0", "p2", "p3", "p4"]
    assert len(set(after_unknown["product_id"])) == 4


def test_the_seed_decides_the_weights(shop: Path) -> None:
    from boat.recommend import training

    split = snapshot.read(shop).split
    parts = [examples.read(shop / snapshot.RECOMMEND, split, part) for part in ("train", "validation", "fit")]  # type: ignore[arg-type]
    quick = RecommendParameters(dimensions=8, epochs=2, refit_epochs=1, seed=3)

    def weights(parameters: RecommendParameters) -> np.ndarray:
        products: np.ndarray = training.train(*parts, parameters, lambda figures: None).trained.network.products()
        return np.asarray(products)

    first = weights(quick)
    # Threads add up in any order, so the last digits differ.
    np.testing.assert_allclose(first, weights(quick), atol=1e-3)
    assert not np.allclose(first, weights(replace(quick, seed=4)))


def test_training_ends_within_its_time_limit(shop: Path) -> None:
    from boat.recommend import training

    split = snapshot.read(shop).split
    parts = [examples.read(shop / snapshot.RECOMMEND, split, part) for part in ("train", "validation", "fit")]  # type: ignore[arg-type]
    endless = RecommendParameters(dimensions=8, epochs=100_000, patience=100_000, refit_epochs=100_000, max_seconds=5)
    metrics = training.train(*parts, endless, lambda figures: None).trained.metrics
    assert metrics["train_seconds"] + metrics["refit_seconds"] < 15


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("recommend", '{"sead": 1}', "SettingError.*sead"),
        ("intent", "{}", "DataError: Cannot train the intent model: 0 of"),
    ],
)
def test_a_failed_job_names_its_cause_in_one_line(
    shop_snapshot: Callable[..., Path], tmp_path: Path, kind: str, parameters: str, message: str
) -> None:
    views_only = shop_snapshot(sessions=120, buyers=False)
    arguments = {"kind": kind, "snapshot": str(views_only), "output": str(tmp_path), "parameters": parameters}
    with pytest.raises(JobError, match=message) as failure:
        LocalCompute().run(JobSpec("train", "boat.models.train", arguments), lambda line: None)
    assert "Traceback" not in str(failure.value)
