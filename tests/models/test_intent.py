"""The exported purchase-intent model: events in, a probability out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from boat import snapshot
from boat.evaluation import metrics
from boat.models import archive, examples, intent, sessions
from boat.models.intent_graph import IntentGraph
from boat.models.parameters import IntentParameters
from boat.models.served import SavedModel
from boat.models.sessions import SessionEvent
from boat.models.train import train_intent

Ask = Callable[..., list[float]]


@pytest.fixture(scope="module")
def model(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    output = tmp_path_factory.mktemp("intent")
    digest = train_intent(shop, output, '{"epochs": 30, "max_seconds": 20}')
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


def test_adding_to_the_cart_raises_the_intent(ask: Ask) -> None:
    looking, adding = ask(_session("pageview", "detail", "detail"), _session("pageview", "detail", "detail", "add"))
    assert looking < 0.4
    assert adding > 0.7


def test_probabilities_are_calibrated_on_days_not_seen(model: SavedModel, shop: Path) -> None:
    test = examples.read(shop / snapshot.INTENT, snapshot.read(shop).split, "test")
    session, shown = examples.cuts(test.lengths)
    label = intent.histories(test).buys[session]
    probability = model.score(examples.columns(test, session, shown, 50))["purchase"]
    table = metrics.calibration(label, probability)
    assert metrics.expected_calibration_error(table) < 0.1
    assert abs(float(probability.mean()) - label.mean()) < 0.1


def test_padding_and_batches_change_nothing(ask: Ask) -> None:
    short, long = _session("detail", "add"), _session(*["detail"] * 40)
    padding: list[SessionEvent] = [{"event_type": "", "product_id": "x", "event_time": 5.0}]
    (alone,) = ask(short)
    assert ask(short, long)[0] == pytest.approx(alone, abs=1e-6)
    assert ask(short[:1] + padding + short[1:])[0] == pytest.approx(alone, abs=1e-6)


def test_the_graph_sees_what_training_saw(model: SavedModel, shop: Path) -> None:
    part = examples.read(shop / snapshot.INTENT, snapshot.read(shop).split, "test")
    session, shown = examples.cuts(part.lengths)
    parameters = IntentParameters()
    network = intent.IntentNetwork(parameters, 0.3)
    windows = intent.histories(part).windows(session, shown, parameters.window)
    odds = network(windows).numpy()
    columns = examples.columns(part, session, shown, 60)
    graph = IntentGraph(network, parameters.window)
    served = graph.serve(**columns)["purchase"].numpy()
    np.testing.assert_allclose(served, 1 / (1 + np.exp(-odds)), rtol=1e-4)


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


def test_after_a_purchase_the_question_is_the_next_one(ask: Ask) -> None:
    after, fresh = ask(_session("detail", "add", "purchase", "pageview", "detail"), _session("pageview", "detail"))
    assert after == pytest.approx(fresh, abs=0.05)


def test_an_instance_without_any_place_for_an_event_is_answered(model: SavedModel) -> None:
    (answer,) = model.predict([{name: [] for name in sessions.INPUTS}])
    assert 0 < answer < 1


def test_the_seed_decides_the_weights(shop: Path) -> None:
    part = intent.histories(examples.read(shop / snapshot.INTENT, snapshot.read(shop).split, "train"))
    runs = [
        intent.train(part, part, IntentParameters(epochs=2, seed=seed), lambda figures: None).network.get_weights()
        for seed in (3, 3, 4)
    ]
    assert all(np.allclose(one, other, atol=1e-3) for one, other in zip(runs[0], runs[1], strict=True))
    assert not all(np.allclose(one, other, atol=1e-3) for one, other in zip(runs[0], runs[2], strict=True))


def test_a_shop_where_nobody_buys_says_so(shop_snapshot: Callable[..., Path]) -> None:
    manifest = snapshot.read(shop_snapshot(sessions=120, buyers=False))
    assert manifest.purchases == 0
    assert manifest.intent_obstacle == f"0 of {manifest.intent['train'][0]} train sessions buy"
