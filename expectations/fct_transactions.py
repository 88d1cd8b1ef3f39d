"""Orders: each once, with amounts that can be true."""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from expectations import columns

COLUMNS = (
    "shop",
    "transaction_id",
    "session_key",
    "client_id",
    "purchased_at",
    "line_count",
    "revenue",
    "tax",
    "shipping",
)


def suite() -> ExpectationSuite:
    return ExpectationSuite(
        "marts.fct_transactions",
        expectations=[
            gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS), exact_match=True, severity="critical"),
            *columns.key("session_key"),
            *columns.event_time("purchased_at"),
            gxe.ExpectColumnValuesToBeBetween(column="line_count", min_value=0, severity="critical"),
            *columns.not_negative("revenue", "tax", "shipping", severity="warning"),
        ],
    )
