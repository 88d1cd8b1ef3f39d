"""The ledger of loaded files: nothing a file held is lost without a trace."""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe


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
            gxe.ExpectColumnValuesToBeBetween(column="failed", max_value=0, severity="warning"),
        ],
    )
