"""The training parameters of a flow are checked before any job starts."""

import pytest
from prefect.exceptions import ParameterTypeError

from boat.errors import SettingError
from boat.intent.parameters import IntentParameters
from boat.models.parameters import ChosenParameters
from boat.recommend.parameters import RecommendParameters
from flows.retrain import retrain
from tasks.training import training_parameters

COMMON = {"seed": 7, "max_seconds": 60}
RECOMMENDER = {"recommend": {"model": "vmis_knn"}}


def test_recommender_seed_and_time_limit_reach_the_training() -> None:
    chosen = training_parameters(COMMON, RECOMMENDER)
    assert chosen["recommend"] == ChosenParameters(
        RecommendParameters(model="vmis_knn", seed=7, max_seconds=60), frozenset({"model", "seed", "max_seconds"})
    )
    assert chosen["intent"].values == IntentParameters(seed=7, max_seconds=60)


def test_parameters_of_a_kind_replace_common_parameters() -> None:
    by_kind = {"recommend": {"sample": 50, "seed": 1}, "intent": {"max_seconds": 5}}
    chosen = training_parameters(COMMON, RECOMMENDER, by_kind)
    assert chosen["recommend"].values == RecommendParameters(model="vmis_knn", seed=1, max_seconds=60, sample=50)
    assert "sample" in chosen["recommend"].fixed
    assert chosen["intent"].values == IntentParameters(seed=7, max_seconds=5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"recommend": {"neighbors": 10}}, "neighbors.*neighbours"),
        ({"recommend": {"dropout": 1.5}}, "dropout=1.5"),
        ({"intent": {"window": "long"}}, "window='long'"),
    ],
    ids=["unknown name", "value out of range", "value of a wrong type"],
)
def test_a_wrong_parameter_is_refused_by_its_name(parameters: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        training_parameters({}, parameters)


def test_the_flow_trains_the_default_recommender_and_refuses_an_unknown_one() -> None:
    assert retrain.parameters.properties["recommender"]["default"] == RecommendParameters.model
    assert {"vmis_knn", "attention"} <= set(retrain.parameters.properties["recommender"]["enum"])
    with pytest.raises(ParameterTypeError, match=r"recommender.*'vmis_knn'"):
        retrain.validate_parameters({"recommender": "oracle"})
