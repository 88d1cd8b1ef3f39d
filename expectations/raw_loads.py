"""The ledger of loaded files: nothing a file held is lost without a trace."""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

FAILED_SHARE, FAILED_LEAST = 0.05, 20
"""Where pages and robots send events a few always fail. Below so many rows a share tells nothing."""

_TOO_MANY_FAILED = f"""
select * from (
    select sum(failed) as failed, sum(received) as received from {{batch}}
    where loaded_at > (select max(loaded_at) from {{batch}}) - interval '1 day'
) as newest_day
where failed >= {FAILED_LEAST} and failed > {FAILED_SHARE} * received
"""


def suite() -> ExpectationSuite:
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
                description=f"At most {FAILED_SHARE:.0%} of the rows of the newest day's loads failed",
                unexpected_rows_query=_TOO_MANY_FAILED,
                severity="warning",
            ),
        ],
    )
