"""The newest complete day beside the days before it: an empty or collapsed one does not train.

Only the platform's own shop can stop the flow: any name can be sent as that of another. A shop's first 7 days, and days
of which fewer than 50 events are expected, are too little to tell anything from.
"""

from great_expectations import ExpectationSuite
from great_expectations.expectations.expectation import Expectation

from expectations import columns
from expectations.no_rows import ExpectNoRows

EXPECTED_LEAST = 50
"""Events. With fewer, chance alone can halve a day."""
COLLAPSED_SHARE, LOW_SHARE, HIGH_SHARE = 0.2, 0.5, 3.0
MIX_DRIFT = 0.2
UNSEEN_SHARE = 0.5
"""Half of what is looked at is new where product ids changed; real shops stay below it after their first week."""
_COLLAPSED = "The newest complete day has a fifth or more of the {} of the days before"


def suite(shop: str = "shop") -> ExpectationSuite:
    own, other = f"shop = {columns.sql_text(shop)}", f"shop != {columns.sql_text(shop)}"
    judged = f"expected_events >= {EXPECTED_LEAST}"
    product_judged = f"expected_product_events >= {EXPECTED_LEAST}"
    collapsed = f"{judged} and events < {COLLAPSED_SHARE} * expected_events"
    products_collapsed = f"{product_judged} and product_events < {COLLAPSED_SHARE} * expected_product_events"
    return ExpectationSuite(
        "marts.daily_volume",
        expectations=[
            _no_day(_COLLAPSED.format("events"), f"{own} and {collapsed}", "critical"),
            _no_day(_COLLAPSED.format("product events"), f"{own} and {products_collapsed}", "critical"),
            _no_day(f"{_COLLAPSED.format('events')}, in the other shops", f"{other} and {collapsed}"),
            _no_day(f"{_COLLAPSED.format('product events')}, in the other shops", f"{other} and {products_collapsed}"),
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
    return ExpectNoRows(
        description=description,
        unexpected_rows_query=f"select * from {{batch}} where is_newest_complete and {condition}",
        severity=severity,
    )
