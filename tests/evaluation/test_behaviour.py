"""A good model passes all behaviour tests, and each kind of bad model fails the test for its fault."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from boat import snapshot
from boat.evaluation import evaluate, gate
from boat.evaluation.behaviour import Suite
from boat.evaluation.report import EvaluationReport
from boat.kinds import KindName
from boat.models import examples, sessions
from boat.models.export import export
from boat.recommend import family
from boat.recommend.parameters import RecommendModel, RecommendParameters
from tests.evaluation.circles import shop, with_prefix

__all__ = ["shop"]

Answer = Callable[..., Mapping[str, tf.Tensor]]


@pytest.fixture(scope="module")
def counted(shop: Path) -> Callable[..., tf.Module]:
    """Return a function that fits a counting recommender, with renamed products or with the test days."""

    def fit(model: RecommendModel, renamed: str = "", leaking: bool = False) -> tf.Module:
        split = snapshot.read(shop).split
        parts = [examples.read(shop / snapshot.RECOMMEND, split, part) for part in ("train", "validation", "fit")]
        if leaking:
            parts[2] = examples.read(shop / snapshot.RECOMMEND, split, "test")
        if renamed:
            parts = [with_prefix(part, renamed) for part in parts]
        return family.fit(*parts, RecommendParameters(model=model), lambda row: None).graph

    return fit


class ChangedModel(tf.Module):
    """A model that changes the inputs or outputs of a good model."""

    def __init__(self, good: tf.Module, answer: Answer) -> None:
        super().__init__()
        self._good, self._answer = good, answer

    @tf.function(input_signature=[tf.TensorSpec([None, None], kind, name) for name, kind in sessions.INPUTS.items()])
    def serve(
        self, event_type: tf.Tensor, product_id: tf.Tensor, url: tf.Tensor, event_time: tf.Tensor
    ) -> Mapping[str, tf.Tensor]:
        columns = {"event_type": event_type, "product_id": product_id, "url": url, "event_time": event_time}
        return self._answer(self._good.serve, columns)


class CountOdds(tf.Module):
    """An intent model that counts adds and views."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], kind, name) for name, kind in sessions.INPUTS.items()])
    def serve(
        self, event_type: tf.Tensor, product_id: tf.Tensor, url: tf.Tensor, event_time: tf.Tensor
    ) -> Mapping[str, tf.Tensor]:
        adds, views = (tf.reduce_sum(tf.cast(event_type == kind, tf.float32), axis=1) for kind in ("add", "detail"))
        return {"purchase": tf.sigmoid(-2 + 2.5 * tf.minimum(adds, 2.0) + 0.05 * views)}


def constant(serve: Answer, columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    first = serve(**{name: values[:1, :0] for name, values in columns.items()})
    return {name: tf.repeat(values, tf.shape(columns["url"])[0], axis=0) for name, values in first.items()}


def upside_down(serve: Answer, columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    answer = serve(**columns)
    return {"product_id": tf.reverse(answer["product_id"], [1]), "score": answer["score"]}


def rising(serve: Answer, columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    return {name: tf.reverse(values, [1]) for name, values in serve(**columns).items()}


def no_numbers(serve: Answer, columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    return {name: values if values.dtype == tf.string else values * np.nan for name, values in serve(**columns).items()}


def read_backwards(serve: Answer, columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    lengths = tf.reduce_sum(tf.cast(columns["event_type"] != "", tf.int32), axis=1)
    return serve(**{name: tf.reverse_sequence(values, lengths, seq_axis=1) for name, values in columns.items()})


def current_first(serve: Answer, columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    answer, products = serve(**columns), columns["product_id"]
    last = tf.reduce_max(tf.where(products != "", tf.range(tf.shape(products)[1])[None], -1), axis=1)
    current = tf.gather(products, tf.maximum(last, 0), batch_dims=1)[:, None]
    listed = tf.where((last >= 0)[:, None], current, answer["product_id"][:, :1])
    return {**answer, "product_id": tf.concat([listed, answer["product_id"][:, 1:]], axis=1)}


def doubled(serve: Answer, columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    answer = serve(**columns)
    return {**answer, "product_id": tf.repeat(answer["product_id"][:, ::2], 2, axis=1)}


def invented(serve: Answer, columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    answer = serve(**columns)
    return {**answer, "product_id": answer["product_id"] + "-of-another-shop"}


def silent_at_first(serve: Answer, columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    answer = serve(**columns)
    has_product = tf.reduce_any(columns["product_id"] != "", axis=1, keepdims=True)
    return {**answer, "product_id": tf.where(has_product, answer["product_id"], "")}


def mixed_with_other_sessions(serve: Answer, columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    return {name: tf.roll(values, 1, axis=0) for name, values in serve(**columns).items()}


def slow(serve: Answer, columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    began = tf.timestamp()
    waited = tf.while_loop(lambda now: now - began < 0.15, lambda now: [tf.timestamp()], [began])
    with tf.control_dependencies(waited):
        return {name: tf.identity(values) for name, values in serve(**columns).items()}


def inverted(serve: Answer, columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    return {"purchase": 1 - serve(**columns)["purchase"]}


def alike(serve: Answer, columns: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    return {"purchase": 0 * serve(**columns)["purchase"] + 0.2}


@pytest.fixture(scope="module")
def report(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[KindName, tf.Module], EvaluationReport]:
    """Return a function that exports a model and evaluates the archive."""

    def evaluated(kind: KindName, graph: tf.Module) -> EvaluationReport:
        path = tmp_path_factory.mktemp("model") / "model.tar.gz"
        about = {"model": "made", "outputs": {}, "parameters": {}, "metrics": {}, "snapshot_digest": "", "products": 0}
        export(graph, path, kind=kind, **about)  # type: ignore[arg-type]
        return evaluate.evaluate(kind, path, shop)

    return evaluated


def refusing(kind: KindName, evaluated: EvaluationReport) -> list[str]:
    return [condition.name for condition in gate.decide(kind, evaluated).gates if not condition.passed]


def failing(evaluated: EvaluationReport) -> list[str]:
    return [result.name for result in evaluated.challenger.behaviour if not result.passed]


def test_good_models_pass_all_behaviour_tests(
    counted: Callable[..., tf.Module], report: Callable[[KindName, tf.Module], EvaluationReport]
) -> None:
    recommend, intent = report("recommend", counted("co_occurrence")), report("intent", CountOdds())
    assert failing(recommend) == failing(intent) == []
    assert [result.name for result in recommend.challenger.behaviour if result.value is None] == []
    assert not [name for name in refusing("intent", intent) if name.startswith("behaviour")]


@pytest.mark.parametrize(
    ("bad", "refused_by"),
    [
        (constant, "the_session_matters"),
        (upside_down, "best_come_first"),
        (rising, "scores_fall_along_the_list"),
        (no_numbers, "answers_are_numbers"),
        (read_backwards, "newest_product_matters_most"),
        (current_first, "current_product_is_left_out"),
        (doubled, "no_product_twice"),
        (invented, "only_products_of_the_shop"),
        (silent_at_first, "an_empty_session_is_answered"),
        (mixed_with_other_sessions, "other_sessions_change_nothing"),
        (slow, "milliseconds_an_answer"),
    ],
)
def test_a_bad_recommender_fails_the_test_for_its_fault(
    bad: Answer,
    refused_by: str,
    counted: Callable[..., tf.Module],
    report: Callable[[KindName, tf.Module], EvaluationReport],
) -> None:
    evaluated = report("recommend", ChangedModel(counted("co_occurrence"), bad))
    assert f"behaviour {refused_by}" in refusing("recommend", evaluated)


@pytest.mark.parametrize(
    ("learned", "refused_by"),
    [
        ({"model": "popular"}, {"the_session_matters"}),
        ({"model": "co_occurrence", "renamed": "old-"}, {"vocabulary_is_current"}),
        (
            {"model": "co_occurrence", "leaking": True},
            {"new_products_are_not_found", "test_days_are_not_easier"},
        ),
    ],
    ids=["popular", "stale", "leaking"],
)
def test_a_recommender_with_wrong_training_data_fails_the_test_for_it(
    learned: dict[str, Any],
    refused_by: set[str],
    counted: Callable[..., tf.Module],
    report: Callable[[KindName, tf.Module], EvaluationReport],
) -> None:
    refusals = refusing("recommend", report("recommend", counted(**learned)))
    assert {f"behaviour {name}" for name in refused_by} <= set(refusals)


@pytest.mark.parametrize(
    ("bad", "refused_by"),
    [
        (inverted, "adding_to_the_cart_raises_intent"),
        (alike, "the_session_matters"),
        (no_numbers, "chances_are_shares"),
        (mixed_with_other_sessions, "other_sessions_change_nothing"),
    ],
)
def test_a_bad_intent_model_fails_the_test_for_its_fault(
    bad: Answer, refused_by: str, report: Callable[[KindName, tf.Module], EvaluationReport]
) -> None:
    assert f"behaviour {refused_by}" in refusing("intent", report("intent", ChangedModel(CountOdds(), bad)))


def test_an_exception_in_a_model_fails_the_test_and_not_the_report() -> None:
    suite: Suite[int] = Suite()

    @suite.at_most(1, "critical")
    def answers(model: int) -> float:
        """It answers."""
        raise ValueError("no such tensor")

    (result,) = suite.run(0)
    assert (result.name, result.severity, result.value, result.passed) == ("answers", "critical", None, False)
    assert result.text == "It answers. The model gave no answer: ValueError: no such tensor"


def test_a_test_that_the_data_cannot_answer_is_not_tested() -> None:
    suite: Suite[int] = Suite()

    @suite.at_least(1, "critical")
    def unanswered(model: int) -> float | None:
        """Return no value."""
        return None

    (result,) = suite.run(0)
    assert result.passed
    assert result.verdict == "not tested"
    assert result.summary == "not tested, required: at least 1"
