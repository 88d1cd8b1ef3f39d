"""Orders: each once, with plausible amounts."""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe

from expectations import columns


def suite() -> ExpectationSuite:
    """Build the suite."""
    return ExpectationSuite(
        "marts.fct_transactions",
        expectations=[
            *columns.key("session_key"),
            *columns.event_time("purchased_at"),
            gxe.ExpectColumnValuesToBeBetween(column="line_count", min_value=0, severity="critical"),
            *columns.not_negative("revenue", "tax", "shipping", severity="warning"),
        ],
    )
