"""A refitted model is released if it was trained on all days and answers like its evaluated twin."""

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from boat import kinds, snapshot
from boat.errors import ArtifactError, DataError
from boat.evaluation import evaluate, gate, twin
from boat.evaluation.behaviour import BehaviourResult
from boat.evaluation.twin import Content, TwinReport
from boat.intent import family as intent_family
from boat.intent.features import histories
from boat.intent.parameters import IntentParameters
from boat.kinds import KindName, TrainingParameters
from boat.models import archive, examples
from boat.models.examples import Sessions
from boat.models.export import export_fitted
from boat.models.fitted import FittedModel
from boat.models.train import WARM_START, refit, train
from boat.models.warm_start import WarmStart
from boat.recommend import family
from boat.recommend.parameters import RecommendParameters
from tests.evaluation.circles import shop, with_prefix

__all__ = ["shop"]

PARAMETERS: dict[KindName, TrainingParameters] = {
    "recommend": RecommendParameters(dimensions=32, epochs=4, refit_epochs=2, max_seconds=60),
    "intent": IntentParameters(model="blend", epochs=8, members=4, rounds=40, max_seconds=60),
}

Change = Callable[[Sessions], Sessions]


@pytest.fixture(scope="module")
def trained(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[KindName], Path]:
    """Return a function that returns the folder of a trained model. Each kind is trained once."""
    folders: dict[KindName, Path] = {}

    def folder(kind: KindName) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind)
            train(kinds.load(kind), shop, folders[kind], PARAMETERS[kind])
        return folders[kind]

    return folder


@pytest.fixture
def refitted(shop: Path, trained: Callable[[KindName], Path], tmp_path: Path) -> Callable[[KindName, Change], Path]:
    """Return a function that refits a trained model on changed sessions, and returns the archive."""

    def changed(kind: KindName, change: Change) -> Path:
        warm_start = WarmStart.read(trained(kind) / WARM_START)
        file = shop / kinds.load(kind).examples
        part = change(examples.read(file, snapshot.read(shop).split, "all"))
        parameters = PARAMETERS[kind]
        fitted: FittedModel
        if isinstance(parameters, RecommendParameters):
            fitted = family.refit(warm_start, part, parameters)
        else:
            assert isinstance(parameters, IntentParameters)
            fitted = intent_family.refit(warm_start, histories(part), parameters)
        fitted = replace(fitted, learned=part.learned)
        export_fitted(fitted, tmp_path / "model.tar.gz", kind=kind, parameters=asdict(parameters))
        return tmp_path / "model.tar.gz"

    return changed


def third(part: Sessions) -> Sessions:
    """Return every third session."""
    chosen = np.arange(0, len(part), 3)
    rows = np.concatenate([np.arange(part.offsets[session], part.offsets[session + 1]) for session in chosen])
    return Sessions(part.events.take(pa.array(rows)), np.append(0, np.cumsum(part.lengths[chosen])))


def shuffled(part: Sessions) -> Sessions:
    """Return the sessions with the products of all events in a random order."""
    order = np.random.default_rng(0).permutation(len(part.events))
    return _with(part, "product_id", part.events["product_id"].take(pa.array(order)))


def other_shop(part: Sessions) -> Sessions:
    """Return the sessions with the products of another shop."""
    return with_prefix(part, "other-")


def other_buyers(part: Sessions) -> Sessions:
    """Return the sessions with randomly drawn buyers."""
    buys = part.events["is_purchase"].to_numpy()[part.offsets[:-1]].astype(bool)
    drawn = np.random.default_rng(0).permutation(buys)
    return _with(part, "is_purchase", pa.chunked_array([np.repeat(drawn, part.lengths)]))


def _with(part: Sessions, column: str, values: pa.ChunkedArray) -> Sessions:
    return Sessions(part.events.set_column(part.events.column_names.index(column), column, values), part.offsets)


@pytest.mark.parametrize("kind", ["recommend", "intent"])
def test_a_model_of_all_days_is_released(
    kind: KindName, shop: Path, trained: Callable[[KindName], Path], tmp_path: Path
) -> None:
    evaluated = trained(kind)
    arguments = {"kind": kind, "twin": evaluated / "model.tar.gz", "warm-start": evaluated / WARM_START}
    options = {**arguments, "snapshot": shop, "output": tmp_path}
    assert twin.main([part for name, value in options.items() for part in (f"--{name}", str(value))]) == 0
    output = tmp_path / twin.COMPARISON
    report = TwinReport.from_json(output.read_text(), str(output))
    assert gate.decide_release(kind, report).text.startswith("Accepted")
    split = snapshot.read(shop).split
    assert datetime.fromisoformat(report.twin.trained_until) < split.test_from
    assert datetime.fromisoformat(report.released.trained_until) > split.test_from
    assert report.released.events > report.twin.events
    names = {result.name for result in report.behaviour}
    assert not names & {"test_days_are_not_easier", "new_products_are_not_found"}


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("recommend", third, "events: Trained on"),
        ("recommend", shuffled, "agreement"),
        ("recommend", other_shop, "agreement"),
        ("intent", third, "events: Trained on"),
        ("intent", other_buyers, "agreement"),
    ],
)
def test_a_model_of_wrong_data_is_not_released(
    kind: KindName,
    change: Change,
    reason: str,
    shop: Path,
    trained: Callable[[KindName], Path],
    refitted: Callable[[KindName, Change], Path],
) -> None:
    report = twin.compare(kind, refitted(kind, change), trained(kind) / "model.tar.gz", shop)
    decision = gate.decide_release(kind, report)
    assert not decision.accepted
    assert reason in decision.text


def test_a_model_that_knows_the_test_days_is_not_evaluated(
    shop: Path, refitted: Callable[[KindName, Change], Path], trained: Callable[[KindName], Path]
) -> None:
    leaking = refitted("recommend", lambda part: part)
    evaluated = trained("recommend") / "model.tar.gz"
    with pytest.raises(DataError, match=r"The challenger was trained on events up to .* the test days begin at"):
        evaluate.evaluate("recommend", leaking, shop)
    with pytest.raises(DataError, match="The champion was trained on events up to"):
        evaluate.evaluate("recommend", evaluated, shop, leaking)


def test_a_refitted_network_keeps_the_vectors_of_its_products(shop: Path, trained: Callable[[KindName], Path]) -> None:
    warm_start = WarmStart.read(trained("recommend") / WARM_START)
    part = examples.read(shop / snapshot.RECOMMEND, snapshot.read(shop).split, "all")
    unchanged = replace(RecommendParameters(dimensions=32, max_seconds=60), refit_epochs=0)
    refitted = family.refit(warm_start, part, unchanged).warm_start
    assert refitted is not None
    old, new = (dict(zip(each.arrays["names"], each.weights[0][1:], strict=True)) for each in (warm_start, refitted))
    assert set(old) < set(new)
    assert all(np.array_equal(old[name], new[name]) for name in old)


def test_a_network_is_refitted_though_its_width_is_the_number_of_its_products(shop: Path, tmp_path: Path) -> None:
    part = examples.read(shop / snapshot.RECOMMEND, snapshot.read(shop).split, "fit")
    products = len(part.vocabulary("product_id")[0])
    parameters = RecommendParameters(model="attention", dimensions=products + 1, epochs=1, refit_epochs=0)
    warm_start = family.fit(part, part, part, parameters, lambda figures: None).warm_start
    assert warm_start is not None
    again = family.refit(warm_start, third(part), parameters).warm_start
    assert again is not None
    assert all(np.array_equal(old, new) for old, new in zip(warm_start.weights[1:], again.weights[1:], strict=True))


def test_less_data_or_another_answer_is_refused() -> None:
    passed = (BehaviourResult("good", "critical", 1.0, 1.0, "at least", True, "Good."),)
    content = Content("2026-03-31T00:00:00", 1000, 50)
    newer = replace(content, trained_until="2026-04-01T03:00:00", events=1100)
    good = TwinReport(newer, content, 0.9, passed)
    assert gate.decide_release("recommend", good).accepted
    assert TwinReport.from_json(good.to_json(), "file") == good
    refused = {
        "events": replace(good, released=replace(newer, events=999)),
        "products": replace(good, released=replace(newer, products=49)),
        "newest event": replace(good, released=replace(newer, trained_until=content.trained_until)),
        "agreement": replace(good, agreement=float("nan")),
        "behaviour": replace(good, behaviour=()),
    }
    for name, report in refused.items():
        assert [each.name for each in gate.decide_release("recommend", report).gates if not each.passed] == [name]


def test_a_damaged_warm_start_is_refused_with_the_next_step(shop: Path, tmp_path: Path) -> None:
    (tmp_path / WARM_START).write_bytes(b"not a file of arrays")
    with pytest.raises(ArtifactError, match=r"warm_start\.npz is not the warm start of a model"):
        refit(kinds.load("recommend"), shop, tmp_path, PARAMETERS["recommend"], tmp_path / WARM_START)


def test_archives_without_a_newest_event_can_be_read(shop: Path, trained: Callable[[KindName], Path]) -> None:
    manifest = archive.read_manifest(trained("intent") / "model.tar.gz")
    assert manifest.events > 0
    assert datetime.fromisoformat(manifest.trained_until) < snapshot.read(shop).split.test_from
