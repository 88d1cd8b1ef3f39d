"""Reading training parameters from JSON into the dataclass of a kind of model."""

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from boat.errors import SettingError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Parameters = TypeVar("Parameters", bound="DataclassInstance")


def parse(text: str, kind: type[Parameters]) -> Parameters:
    """Parameters from JSON such as `{"seed": 1}`; what is not there has its default.

    Raises:
        SettingError: Not a JSON object, an unknown name, or a value that cannot work.
    """
    try:
        given = json.loads(text)
    except ValueError as error:
        raise SettingError(f"The parameters {text!r} are not JSON ({error}).", 'Write them as {"seed": 1}.') from error
    known = {field.name: field.type for field in fields(kind)}
    if not isinstance(given, dict) or given.keys() - known.keys():
        raise SettingError(f"Unknown parameters in {text!r}.", f"Known are: {', '.join(known)}.")
    checked: dict[str, Any] = {name: _checked(name, value, known[name]) for name, value in given.items()}
    return kind(**checked)


def _checked(name: str, value: Any, wanted: Any) -> str | int | float:
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise SettingError(
                f"Parameter {name}={value!r} is unknown.", f"Choose one of: {', '.join(get_args(wanted))}."
            )
        return str(value)
    allowed = (int,) if wanted is int else (int, float)
    lowest = 0 if name in ("dropout", "seed", "refit_epochs") else 1 if wanted is int else 1e-9
    if isinstance(value, bool) or not isinstance(value, allowed) or not value >= lowest or value == float("inf"):
        raise SettingError(f"Parameter {name}={value!r} is not a number from {lowest}.", "Correct it.")
    if name == "dropout" and value >= 1:
        raise SettingError(f"Parameter dropout={value!r} would drop everything.", "Choose one below 1.")
    return int(value) if wanted is int else float(value)
