"""A custom expectation: a query returns no rows. The result shows the first rows if it does."""

from typing import Any

from great_expectations import expectations as gxe

MAX_ROWS = 3


class ExpectNoRows(gxe.UnexpectedRowsExpectation):
    """Expect that a query returns no rows.

    Great Expectations returns the rows only in its most detailed result format. A warning needs some of them.
    """

    def _validate(self, metrics: dict[str, Any], *arguments: Any, **named: Any) -> Any:
        result: Any = super()._validate(metrics, *arguments, **named)
        rows = metrics["unexpected_rows_query.table"][:MAX_ROWS]
        sample = [{name: str(value) for name, value in row.items()} for row in rows]
        result.setdefault("result", {})["details"] = {"unexpected_rows": sample}
        return result
