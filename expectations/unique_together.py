"""A custom expectation: a combination of columns is unique. Great Expectations' own one sorts whole rows."""

from typing import ClassVar

from great_expectations.expectations.expectation import Expectation

from expectations.no_rows import ExpectNoRows


class ExpectUniqueTogether(ExpectNoRows):
    """Expect that a query of repeated combinations returns no rows."""

    looks_at_rows: ClassVar[bool] = True
    """Whether it holds for all rows if it holds for old and for changed rows: `boat.quality` checks only the latter."""


def unique_together(*columns: str) -> Expectation:
    """Expect that each combination of the columns is in one row. Few rows share a hash, and only they are compared."""
    names, complete = ", ".join(columns), " and ".join(f"{column} is not null" for column in columns)
    repeated = f"select hash({names}) from {{batch}} where {complete} group by 1 having count(*) > 1"
    return ExpectUniqueTogether(
        description=f"Each combination of {names} is in one row",
        unexpected_rows_query=f"""select {names}, count(*) as copies from {{batch}}
        where {complete} and hash({names}) in ({repeated}) group by {names} having count(*) > 1""",
        severity="critical",
    )
