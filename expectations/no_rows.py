"""A custom expectation: a query finds no row, and the result shows the first that it finds."""

from typing import Any

from great_expectations import expectations as gxe

SHOWN = 3


class ExpectNoRows(gxe.UnexpectedRowsExpectation):
    """No row of the table is found by a query.

    Great Expectations returns these rows only with everything else of every check; a warning needs some names.
    """

    def _validate(self, metrics: dict[str, Any], *arguments: Any, **named: Any) -> Any:
        result: Any = super()._validate(metrics, *arguments, **named)
        rows = metrics["unexpected_rows_query.table"][:SHOWN]
        shown = [{name: str(value) for name, value in row.items()} for row in rows]
        result.setdefault("result", {})["details"] = {"unexpected_rows": shown}
        return result
