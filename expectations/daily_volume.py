"""The newest complete day compared with the days before it: no training after an empty or collapsed day.

Only the shop of the platform can stop the flow, because any shop name can be sent. The first 7 days of a shop, and days
with fewer than 50 expected events, are not checked.
"""

from great_expectations import ExpectationSuite
from great_expectations.expectations.expectation import Expectation

from expectations import columns
from expectations.no_rows import ExpectNoRows

MIN_EXPECTED = 50
"""Expected events of a day that is checked. With fewer events, chance alone can halve a day."""
COLLAPSED_SHARE, LOW_SHARE, HIGH_SHARE = 0.2, 0.5, 3.0
MIX_DRIFT = 0.2
UNSEEN_SHARE = 0.5
"""Real shops stay below it after their first week. A change of product ids exceeds it."""
_COLLAPSED = "The newest complete day has a fifth or more of the {} of the days before"


def suite(shop: str = "shop") -> ExpectationSuite:
    """Build the suite for the platform of a shop."""
    own_shop, other_shops = f"shop = {columns.sql_text(shop)}", f"shop != {columns.sql_text(shop)}"
    checked = f"expected_events >= {MIN_EXPECTED}"
    products_checked = f"expected_product_events >= {MIN_EXPECTED}"
    collapsed = f"{checked} and events < {COLLAPSED_SHARE} * expected_events"
    products_collapsed = f"{products_checked} and product_events < {COLLAPSED_SHARE} * expected_product_events"
    return ExpectationSuite(
        "marts.daily_volume",
        expectations=[
            _no_day(_COLLAPSED.format("events"), f"{own_shop} and {collapsed}", "critical"),
            _no_day(_COLLAPSED.format("product events"), f"{own_shop} and {products_collapsed}", "critical"),
            _no_day(f"{_COLLAPSED.format('events')}, in the other shops", f"{other_shops} and {collapsed}"),
            _no_day(
                f"{_COLLAPSED.format('product events')}, in the other shops", f"{other_shops} and {products_collapsed}"
            ),
            _no_day(
                "The newest complete day has between half and three times the events of the days before",
                f"{checked} and events not between {LOW_SHARE} * expected_events and {HIGH_SHARE} * expected_events",
            ),
            _no_day(
                "The event types of the newest complete day have similar shares to the days before",
                f"{checked} and mix_drift > {MIX_DRIFT}",
            ),
            _no_day(
                "Every event type of all days before has an event on the newest complete day",
                "vanished_types > 0",
            ),
            _no_day(
                "Most products of the newest complete day had events before it",
                f"{products_checked} and unseen_product_share > {UNSEEN_SHARE}",
            ),
        ],
    )


def _no_day(description: str, condition: str, severity: str = "warning") -> Expectation:
    return ExpectNoRows(
        description=description,
        unexpected_rows_query=f"select * from {{batch}} where is_newest_complete and {condition}",
        severity=severity,
    )
