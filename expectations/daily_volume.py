"""The newest complete day beside the days before it: an empty or collapsed one does not train.

A shop's first 7 days, and days of which fewer than 50 events are expected, are too little to tell anything from.
"""

from great_expectations import ExpectationSuite
from great_expectations import expectations as gxe
from great_expectations.expectations.expectation import Expectation

EXPECTED_LEAST = 50
"""Events. With fewer, chance alone can halve a day."""
COLLAPSED_SHARE, LOW_SHARE, HIGH_SHARE = 0.2, 0.5, 3.0
MIX_DRIFT = 0.2
UNSEEN_SHARE = 0.5
"""Half of what is looked at is new where product ids changed; real shops stay below it after their first week."""


def suite() -> ExpectationSuite:
    judged = f"expected_events >= {EXPECTED_LEAST}"
    product_judged = f"expected_product_events >= {EXPECTED_LEAST}"
    return ExpectationSuite(
        "marts.daily_volume",
        expectations=[
            _no_day(
                "The newest complete day has a fifth or more of the events of the days before",
                f"{judged} and events < {COLLAPSED_SHARE} * expected_events",
                "critical",
            ),
            _no_day(
                "The newest complete day has a fifth or more of the product events of the days before",
                f"{product_judged} and product_events < {COLLAPSED_SHARE} * expected_product_events",
                "critical",
            ),
            _no_day(
                "The newest complete day has between half and three times the events of the days before",
                f"{judged} and events not between {LOW_SHARE} * expected_events and {HIGH_SHARE} * expected_events",
            ),
            _no_day(
                "The event types of the newest complete day have about the shares of the days before",
                f"{judged} and mix_drift > {MIX_DRIFT}",
            ),
            _no_day(
                "No event type is missing from the newest complete day that came on all days before",
                "vanished_types > 0",
            ),
            _no_day(
                "Most products of the newest complete day were seen before it",
                f"{product_judged} and unseen_product_share > {UNSEEN_SHARE}",
            ),
        ],
    )


def _no_day(description: str, condition: str, severity: str = "warning") -> Expectation:
    return gxe.UnexpectedRowsExpectation(
        description=description,
        unexpected_rows_query=f"select * from {{batch}} where is_newest_complete and {condition}",
        severity=severity,
    )
