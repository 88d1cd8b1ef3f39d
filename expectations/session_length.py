"""A custom expectation of the length of sessions."""

from typing import Any

from great_expectations import expectations as gxe
from great_expectations.compatibility import pydantic


class ExpectMeanSessionLengthToBeBetween(gxe.UnexpectedRowsExpectation):
    """Expect a mean number of events per session in each shop. Outside the range, sessions are split or joined wrongly.

    Args:
        min_events: Smallest mean, in events.
        max_events: Largest mean, in events.
    """

    min_events: float
    max_events: float

    @pydantic.root_validator(pre=True)
    def _write_query(cls, values: dict[str, Any]) -> dict[str, Any]:
        low, high = float(values["min_events"]), float(values["max_events"])
        query = (
            "select shop, avg(event_count) as mean_events from {batch} group by shop "
            f"having avg(event_count) not between {low} and {high}"
        )
        return values | {"unexpected_rows_query": query}
