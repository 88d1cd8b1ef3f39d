"""Parameters of a training: the flow's parameters are validated before the training starts."""

import pytest
from prefect.exceptions import ParameterTypeError

from boat.errors import SettingError
from boat.recommend.parameters import RecommendParameters
from flows.retrain import retrain
from tasks.training import what_to_tell


def test_the_training_gets_model_seed_and_time_limit() -> None:
    parameters = what_to_tell("vmis_knn", 7, 60, {})
    assert parameters["recommend"] == {"model": "vmis_knn", "seed": 7, "max_seconds": 60}
    assert parameters["intent"] == {"seed": 7, "max_seconds": 60}


def test_parameters_of_a_kind_override_shared_parameters() -> None:
    parameters = what_to_tell("vmis_knn", 7, 60, {"recommend": {"sample": 50, "seed": 1}, "intent": {"max_seconds": 5}})
    assert parameters["recommend"] == {"model": "vmis_knn", "seed": 1, "max_seconds": 60, "sample": 50}
    assert parameters["intent"] == {"seed": 7, "max_seconds": 5}


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"recommend": {"neighbors": 10}}, "neighbors.*neighbours"),
        ({"recommend": {"dropout": 1.5}}, "dropout=1.5"),
        ({"intent": {"window": "long"}}, "window='long'"),
    ],
)
def test_an_invalid_parameter_is_named(parameters: dict[str, dict[str, object]], named: str) -> None:
    with pytest.raises(SettingError, match=named):
        what_to_tell("attention", 0, 60, parameters)


def test_the_flow_trains_the_default_model_and_refuses_an_unknown_one() -> None:
    assert retrain.parameters.properties["recommender"]["default"] == RecommendParameters.model
    assert {"vmis_knn", "attention"} <= set(retrain.parameters.properties["recommender"]["enum"])
    with pytest.raises(ParameterTypeError, match=r"recommender.*'vmis_knn'"):
        retrain.validate_parameters({"recommender": "oracle"})
