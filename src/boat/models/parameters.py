"""Reading and checking of training parameters."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from boat.errors import SettingError
from boat.kinds import TrainingParameters

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Parameters = TypeVar("Parameters", bound="DataclassInstance")


@dataclass(frozen=True)
class ChosenParameters:
    """The parameters of a training that a user has started.

    Attributes:
        values: All parameters.
        fixed: Names of the parameters that the user has set. Tuning does not vary them.
    """

    values: TrainingParameters
    fixed: frozenset[str] = frozenset()


def parse(text: str, cls: type[Parameters]) -> Parameters:
    """Read parameters from JSON such as `{"seed": 1}`; see `check`."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise SettingError(f"The parameters {text!r} are not JSON ({error}).", 'Write them as {"seed": 1}.') from error
    if not isinstance(values, dict):
        raise SettingError(f"The parameters {text!r} are not a JSON object.", 'Write them as {"seed": 1}.')
    return check(values, cls)


def check(values: Mapping[str, Any], cls: type[Parameters]) -> Parameters:
    """Return the dataclass with these parameters. Missing parameters have their defaults.

    Raises:
        SettingError: A name is unknown, or a value cannot work.
    """
    types = {field.name: field.type for field in fields(cls)}
    unknown = [name for name in values if name not in types]
    if unknown:
        raise SettingError(f"Unknown training parameters: {', '.join(unknown)}.", f"Choose from: {', '.join(types)}.")
    checked: dict[str, Any] = {name: _checked(name, value, types[name]) for name, value in values.items()}
    return cls(**checked)


def from_archive(values: Mapping[str, Any], cls: type[Parameters]) -> Parameters:
    """Return the parameters of an exported model. Parameters that this version of Boat no longer has are ignored."""
    names = {field.name for field in fields(cls)}
    return cls(**{name: value for name, value in values.items() if name in names})


def _checked(name: str, value: Any, expected: Any) -> str | int | float:
    if get_origin(expected) is Literal:
        if value not in get_args(expected):
            raise SettingError(
                f"Parameter {name}={value!r} is unknown.", f"Choose one of: {', '.join(get_args(expected))}."
            )
        return str(value)
    allowed = (int,) if expected is int else (int, float)
    lowest = 0 if name in ("dropout", "seed", "refit_epochs") else 1 if expected is int else 1e-9
    if isinstance(value, bool) or not isinstance(value, allowed) or not value >= lowest or value == float("inf"):
        number = "an integer" if expected is int else "a number"
        raise SettingError(f"Parameter {name}={value!r} is not {number} of at least {lowest}.", "Correct the value.")
    if name == "dropout" and value >= 1:
        raise SettingError(f"Parameter dropout={value!r} would drop all values.", "Choose a value below 1.")
    return int(value) if expected is int else float(value)
