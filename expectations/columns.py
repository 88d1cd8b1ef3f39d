"""Expectations that several tables have."""

from datetime import UTC, datetime, timedelta

from great_expectations import expectations as gxe
from great_expectations.expectations.expectation import Expectation


def text(column: str) -> Expectation:
    """Expect text, so that an id was not read as a number."""
    # SQLAlchemy's names of the type in DuckDB and in Snowflake.
    return gxe.ExpectColumnValuesToBeInTypeList(
        column=column, type_list=["String", "VARCHAR(16777216)"], severity="critical"
    )


def key(column: str, severity: str = "critical") -> list[Expectation]:
    """Expect text in every row; a row without it has the given severity."""
    return [gxe.ExpectColumnValuesToNotBeNull(column=column, severity=severity), text(column)]


def not_negative(*columns: str, severity: str = "critical") -> list[Expectation]:
    """Expect counts or amounts that are not negative."""
    return [gxe.ExpectColumnValuesToBeBetween(column=column, min_value=0, severity=severity) for column in columns]


def sql_text(text: str) -> str:
    """Return a text as an SQL literal for `UnexpectedRowsExpectation`, which interprets braces."""
    quoted = text.replace("'", "''").replace("{", "{{").replace("}", "}}")
    return f"'{quoted}'"


def event_time(column: str = "event_time", severity: str = "critical") -> list[Expectation]:
    """Expect a plausible time in UTC in every row."""
    # A clock or zone may be off. More than a day ahead, or before 2000, the unit was wrong.
    latest = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)
    return [
        gxe.ExpectColumnValuesToNotBeNull(column=column, severity=severity),
        gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=datetime(2000, 1, 1), max_value=latest, severity=severity
        ),
    ]
