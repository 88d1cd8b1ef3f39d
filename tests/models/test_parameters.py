"""Training parameters are validated before a training starts."""

import pytest

from boat.errors import SettingError
from boat.intent.parameters import IntentParameters
from boat.models.parameters import parse
from boat.recommend.parameters import RecommendParameters


def test_missing_parameters_have_their_defaults() -> None:
    assert parse("{}", RecommendParameters) == RecommendParameters()
    assert parse('{"seed": 7, "max_seconds": 5}', IntentParameters) == IntentParameters(seed=7, max_seconds=5.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"sed": 7}', "seed"),
        ("[]", "seed"),
        ("{", "not JSON"),
        ('{"epochs": 0}', "epochs=0"),
        ('{"epochs": 1.5}', r"epochs=1\.5"),
        ('{"epochs": true}', "epochs=True"),
        ('{"max_seconds": "5"}', "max_seconds='5'"),
        ('{"max_seconds": Infinity}', "max_seconds=inf"),
        ('{"learning_rate": NaN}', "learning_rate=nan"),
        ('{"learning_rate": -1}', "learning_rate=-1"),
        ('{"dropout": 1}', "dropout=1"),
        ('{"model": "oracle"}', "popular"),
        ('{"repeats": true}', "repeats=True"),
        ('{"model": [1]}', r"model=\[1\]"),
    ],
)
def test_an_invalid_parameter_is_named(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        parse(text, RecommendParameters)
