"""A custom expectation: how long sessions are."""

from typing import Any

from great_expectations import expectations as gxe
from great_expectations.compatibility import pydantic


class ExpectMeanSessionLengthToBeBetween(gxe.UnexpectedRowsExpectation):
    """Sessions hold, in the mean of each shop, so many events: outside of it they are cut or glued wrongly.

    Args:
        min_events: Least mean.
        max_events: Greatest mean.
    """

    min_events: float
    max_events: float

    @pydantic.root_validator(pre=True)
    def _write_query(cls, values: dict[str, Any]) -> dict[str, Any]:
        least, most = float(values["min_events"]), float(values["max_events"])
        query = (
            "select shop, avg(event_count) as mean_events from {batch} group by shop "
            f"having avg(event_count) not between {least} and {most}"
        )
        return values | {"unexpected_rows_query": query}
