"""Expectations that several tables share."""

from datetime import UTC, datetime, timedelta

from great_expectations import expectations as gxe
from great_expectations.expectations.expectation import Expectation


def text(column: str) -> Expectation:
    """Text, and nothing that was taken for a number."""
    # What SQLAlchemy finds in a table of DuckDB, and of Snowflake.
    return gxe.ExpectColumnValuesToBeInTypeList(
        column=column, type_list=["String", "VARCHAR(16777216)"], severity="critical"
    )


def key(column: str, severity: str = "critical") -> list[Expectation]:
    """Text that is always there; `severity` is that of a row without it."""
    return [gxe.ExpectColumnValuesToNotBeNull(column=column, severity=severity), text(column)]


def not_negative(*columns: str, severity: str = "critical") -> list[Expectation]:
    """Counts and amounts."""
    return [gxe.ExpectColumnValuesToBeBetween(column=column, min_value=0, severity=severity) for column in columns]


def sql_text(text: str) -> str:
    """Return a text as SQL for a query of `UnexpectedRowsExpectation`, which reads braces as its own."""
    quoted = text.replace("'", "''").replace("{", "{{").replace("}", "}}")
    return f"'{quoted}'"


def event_time(column: str = "event_time", severity: str = "critical") -> list[Expectation]:
    """A time in UTC that can be true."""
    # A shop's clock or zone may be off; more than a day ahead, or before 2000, the unit was mistaken.
    latest = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)
    return [
        gxe.ExpectColumnValuesToNotBeNull(column=column, severity=severity),
        gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=datetime(2000, 1, 1), max_value=latest, severity=severity
        ),
    ]
