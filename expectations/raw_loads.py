"""The ledger of loaded files: every row of a file is accounted for."""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

MAX_FAILED_SHARE, MIN_FAILED = 0.05, 20
"""Pages and robots always send a few bad events. With fewer failed rows, the share is not meaningful."""

_TOO_MANY_FAILED = f"""
select * from (
    select sum(failed) as failed, sum(received) as received from {{batch}}
    where loaded_at > (select max(loaded_at) from {{batch}}) - interval '1 day'
) as newest_day
where failed >= {MIN_FAILED} and failed > {MAX_FAILED_SHARE} * received
"""


def suite() -> ExpectationSuite:
    """Build the suite."""
    return ExpectationSuite(
        "raw.loads",
        expectations=[
            gxe.UnexpectedRowsExpectation(
                description="received = accepted + duplicate + failed",
                unexpected_rows_query="select * from {batch} where received != accepted + duplicate + failed",
                severity="critical",
            ),
            gxe.ExpectColumnValuesToBeUnique(column="digest", severity="warning"),
            gxe.UnexpectedRowsExpectation(
                description=f"At most {MAX_FAILED_SHARE:.0%} of the rows of the newest day of loads failed",
                unexpected_rows_query=_TOO_MANY_FAILED,
                severity="warning",
            ),
        ],
    )
