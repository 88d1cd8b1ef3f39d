"""The exported intent models return a calibrated probability for any session."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from boat import kinds, metrics, snapshot
from boat.intent import family, training
from boat.intent.estimators import ESTIMATORS
from boat.intent.family import Candidate
from boat.intent.features import histories
from boat.intent.graph import OUTPUTS, IntentGraph
from boat.intent.parameters import IntentModel, IntentParameters
from boat.models import archive, examples, sessions
from boat.models.examples import Part
from boat.models.export import export
from boat.models.served import SavedModel
from boat.models.sessions import SessionEvent
from boat.models.train import train

Ask = Callable[..., list[float]]

QUICK = IntentParameters(epochs=12, max_seconds=120, members=4, rounds=60)


@pytest.fixture(scope="module")
def learned(shop: Path) -> dict[str, Candidate]:
    """Fit every intent model."""
    split = snapshot.read(shop).split
    parts: list[Part] = ["train", "validation", "fit"]
    read = [histories(examples.read(shop / snapshot.INTENT, split, part)) for part in parts]
    candidates: dict[str, Candidate] = {}
    for name in ("auto", "lstm", "logistic"):
        candidates |= family.candidates(*read, replace(QUICK, model=name), lambda figures: None)
    return candidates


@pytest.fixture(scope="module", params=["sequence", "boosting", "blend", "lstm", "logistic"])
def model(
    request: pytest.FixtureRequest, learned: dict[str, Candidate], tmp_path_factory: pytest.TempPathFactory
) -> SavedModel:
    output = tmp_path_factory.mktemp("intent")
    about = {"outputs": OUTPUTS, "parameters": {}, "metrics": {}, "snapshot_digest": "", "products": 0}
    graph = IntentGraph(learned[request.param].odds, QUICK.window)
    digest = export(graph, output / "model.tar.gz", kind="intent", model=request.param, **about)  # type: ignore[arg-type]
    archive.unpack(output / "model.tar.gz", output / "unpacked", digest)
    return SavedModel(output / "unpacked")


@pytest.fixture(scope="module")
def ask(model: SavedModel) -> Ask:
    def answer(*events: list[SessionEvent]) -> list[float]:
        answers: list[float] = model.predict(sessions.instances(events))
        return answers

    return answer


def _session(*types: str) -> list[SessionEvent]:
    return [
        {"event_type": kind, "product_id": "" if kind == "pageview" else f"p{i}", "event_time": 1e9 + 10.0 * i}
        for i, kind in enumerate(types)
    ]


def test_the_registry_has_every_intent_model() -> None:
    assert tuple(ESTIMATORS) == get_args(IntentModel)


def test_adding_to_the_cart_raises_the_intent(ask: Ask) -> None:
    looking, adding = ask(_session("pageview", "detail", "detail"), _session("pageview", "detail", "detail", "add"))
    assert looking < 0.4
    assert adding > looking + 0.2


def test_probabilities_are_calibrated_on_the_test_days(model: SavedModel, shop: Path) -> None:
    test = examples.read(shop / snapshot.INTENT, snapshot.read(shop).split, "test")
    session, length = examples.cuts(test.lengths)
    label = histories(test).buys[session]
    probability = model.score(examples.columns(test, session, length, 50))["purchase"]
    table = metrics.calibration(label, probability, bins=4)
    assert metrics.expected_calibration_error(table) < 0.12
    assert abs(float(probability.mean()) - label.mean()) < 0.1


def test_times_of_any_unit_and_notation_and_types_of_any_spelling_are_understood(model: SavedModel) -> None:
    (plain,) = sessions.instances([_session("pageview", "detail", "detail", "add")])
    times = [1_714_564_800 + second for second in (0, 10, 25, 70)]
    plain["event_time"] = times
    texts = [datetime.fromtimestamp(time, UTC).isoformat() for time in times]
    same = [
        plain,
        *({**plain, "event_time": [time * unit for time in times]} for unit in (10**3, 10**6, 10**9)),
        {**plain, "event_time": texts},
        {**plain, "event_time": [str(1000 * time) for time in times]},
        {**plain, "event_type": ["Page View", "view", " DETAIL ", "Add to Cart"]},
    ]
    answers = model.predict(same)
    assert answers == pytest.approx(answers[:1] * len(same), abs=1e-6)
    unknown = [{**plain, "event_time": [nothing] * 4} for nothing in (0, 0.0, None, "", "undefined")]
    answers = model.predict(unknown)
    assert answers == pytest.approx(answers[:1] * len(unknown), abs=1e-6)


def test_refunds_and_unused_types_change_nothing_and_a_transaction_is_a_purchase(ask: Ask) -> None:
    plain = _session("pageview", "detail", "add")
    (alone,) = ask(plain)
    for name in ("refund", "Order Refunded", "scroll", "begin_checkout", ""):
        ignored: SessionEvent = {"event_type": name, "product_id": "p1", "event_time": 1e9 + 15.0}
        assert ask([*plain[:2], ignored, *plain[2:], ignored]) == [pytest.approx(alone, abs=1e-6)]
    bought, transaction = (_session("detail", "add", name, "pageview") for name in ("purchase", "Transaction"))
    assert ask(bought) == pytest.approx(ask(transaction), abs=1e-6)


def test_padding_and_batches_change_nothing(ask: Ask) -> None:
    short, long = _session("detail", "add"), _session(*["detail"] * 40)
    padding: list[SessionEvent] = [{"event_type": "", "product_id": "x", "event_time": 5.0}]
    (alone,) = ask(short)
    assert ask(short, long)[0] == pytest.approx(alone, abs=1e-6)
    assert ask(short[:1] + padding + short[1:])[0] == pytest.approx(alone, abs=1e-6)


def test_the_graph_and_the_training_compute_the_same_odds(learned: dict[str, Candidate], shop: Path) -> None:
    part = examples.read(shop / snapshot.INTENT, snapshot.read(shop).split, "test")
    session, length = examples.cuts(part.lengths)
    odds = learned["blend"].odds
    trained = odds(histories(part).windows(session, length, QUICK.window)).numpy()
    graph = IntentGraph(odds, QUICK.window)
    served = graph.serve(**examples.columns(part, session, length, 60))["purchase"].numpy()
    np.testing.assert_allclose(served, 1 / (1 + np.exp(-trained)), rtol=1e-4)


def test_a_blend_is_between_its_parts(learned: dict[str, Candidate], shop: Path) -> None:
    part = histories(examples.read(shop / snapshot.INTENT, snapshot.read(shop).split, "test"))
    window = part.windows(*part.cuts(0), QUICK.window)
    sequence, boosting, blend = (learned[name].odds(window).numpy() for name in ("sequence", "boosting", "blend"))
    np.testing.assert_allclose(blend, (sequence + boosting) / 2, atol=1e-5)


def test_a_part_replaces_the_blend_only_if_it_is_clearly_better() -> None:
    draw = np.random.default_rng(0)
    label, session = draw.random(4000) < 0.2, np.arange(4000)
    odds = {"sequence": 4.0, "blend": 2.0, "boosting": 0.0}
    fitted = {
        name: Candidate(None, label * clear + draw.normal(size=4000), {"validation_pr_auc": clear}, [])  # type: ignore[arg-type]
        for name, clear in odds.items()
    }
    assert family.best(fitted, label, session) == "sequence"
    few = {name: replace(part, validation=part.validation[:40]) for name, part in fitted.items()}
    few["sequence"] = replace(few["blend"], validation=few["blend"].validation + 0.1 * draw.normal(size=40))
    assert family.best(few, label[:40], session[:40]) == "blend"


def test_the_metrics_of_all_candidates_are_written(shop: Path, tmp_path: Path) -> None:
    digest = train(kinds.load("intent"), shop, tmp_path, replace(QUICK, max_seconds=30))
    manifest = archive.unpack(tmp_path / "model.tar.gz", tmp_path / "unpacked", digest)
    metrics_file = json.loads((tmp_path / "metrics.json").read_text())
    assert {f"validation_pr_auc_{name}" for name in ("sequence", "boosting", "blend")} <= set(metrics_file)
    assert metrics_file["validation_pr_auc"] == metrics_file[f"validation_pr_auc_{manifest.model}"]
    assert metrics_file["validation_loss"] == metrics_file[f"validation_loss_{manifest.model}"]


def test_strange_sessions_get_a_probability(ask: Ask) -> None:
    strange: list[list[SessionEvent]] = [
        [],
        _session("unheard of", "detail"),
        _session("purchase"),
        [{"event_type": "detail", "product_id": "p1"}] * 3,
        [{"event_type": "detail", "event_time": time} for time in (1e308, -1e308, 0.0, 1e308)],
        _session(*["detail"] * 10_000),
    ]
    assert all(0 < answer < 1 for session in strange for answer in ask(session))


def test_events_before_a_purchase_do_not_change_the_intent_after_it(ask: Ask) -> None:
    after, fresh = ask(_session("detail", "add", "purchase", "pageview", "detail"), _session("pageview", "detail"))
    assert after == pytest.approx(fresh, abs=0.05)


def test_an_instance_without_events_is_answered(model: SavedModel) -> None:
    (answer,) = model.predict([{name: [] for name in sessions.INPUTS}])
    assert 0 < answer < 1


def test_the_seed_decides_the_weights(shop: Path) -> None:
    part = histories(examples.read(shop / snapshot.INTENT, snapshot.read(shop).split, "train"))
    runs = [
        training.train(
            "sequence", part, part, IntentParameters(epochs=2, seed=seed), lambda figures: None
        ).network.get_weights()
        for seed in (3, 3, 4)
    ]
    assert all(np.allclose(first, second, atol=1e-3) for first, second in zip(runs[0], runs[1], strict=True))
    assert not all(np.allclose(first, second, atol=1e-3) for first, second in zip(runs[0], runs[2], strict=True))


def test_a_snapshot_without_purchases_names_the_reason(shop_snapshot: Callable[..., Path]) -> None:
    manifest = snapshot.read(shop_snapshot(sessions=120, buyers=False))
    assert manifest.purchases == 0
    assert manifest.intent_obstacle == f"0 of {manifest.intent['train'][0]} train sessions contain a purchase"
