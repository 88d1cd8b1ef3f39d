"""What a training is told: the flow's parameters, looked at before anything is done."""

import pytest
from prefect.exceptions import ParameterTypeError

from boat.errors import SettingError
from boat.recommend.parameters import RecommendParameters
from flows.retrain import retrain
from tasks.training import what_to_tell


def test_the_model_the_seed_and_the_time_reach_the_training() -> None:
    told = what_to_tell({"seed": 7, "max_seconds": 60}, {"recommend": {"model": "vmis_knn"}})
    assert told["recommend"] == {"model": "vmis_knn", "seed": 7, "max_seconds": 60}
    assert told["intent"] == {"seed": 7, "max_seconds": 60}


def test_what_is_given_by_kind_goes_before_what_both_get() -> None:
    by_kind = {"recommend": {"sample": 50, "seed": 1}, "intent": {"max_seconds": 5}}
    told = what_to_tell({"seed": 7, "max_seconds": 60}, {"recommend": {"model": "vmis_knn"}}, by_kind)
    assert told["recommend"] == {"model": "vmis_knn", "seed": 1, "max_seconds": 60, "sample": 50}
    assert told["intent"] == {"seed": 7, "max_seconds": 5}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"recommend": {"neighbors": 10}}, "neighbors.*neighbours"),
        ({"recommend": {"dropout": 1.5}}, "dropout=1.5"),
        ({"intent": {"window": "long"}}, "window='long'"),
    ],
)
def test_a_parameter_that_cannot_work_is_named(given: dict[str, dict[str, object]], named: str) -> None:
    with pytest.raises(SettingError, match=named):
        what_to_tell({}, given)


def test_the_flow_trains_the_default_of_the_family_and_refuses_a_model_that_does_not_exist() -> None:
    assert retrain.parameters.properties["recommender"]["default"] == RecommendParameters.model
    assert {"vmis_knn", "attention"} <= set(retrain.parameters.properties["recommender"]["enum"])
    with pytest.raises(ParameterTypeError, match=r"recommender.*'vmis_knn'"):
        retrain.validate_parameters({"recommender": "oracle"})
