"""The dbt project excludes events by the ranges, types and words of `boat.events`."""

import ast
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from boat import events

DBT = Path(__file__).parents[2] / "dbt"


@pytest.fixture(scope="module")
def rules() -> str:
    return (DBT / "macros" / "event_rules.sql").read_text()


def test_ranges_match_the_contract() -> None:
    variables: dict[str, Any] = yaml.safe_load((DBT / "dbt_project.yml").read_text())["vars"]
    assert timedelta(minutes=variables["clock_ahead_minutes"]) == events.CLOCK_AHEAD
    assert timedelta(days=variables["clock_late_days"]) == events.CLOCK_LATE
    assert datetime.fromisoformat(variables["earliest_event_time"]) == events.EARLIEST
    assert float(variables["largest_amount"]) == events.MAX_PRICE
    assert float(variables["largest_quantity"]) == events.MAX_QUANTITY


def test_event_types_and_types_with_a_product_match_the_contract(rules: str) -> None:
    (types,) = re.findall(r"return\((\[.*?\])\)", rules)
    (without_product,) = re.findall(r"product_id is null and event_type not in (\(.*?\))", rules)
    assert set(ast.literal_eval(types)) == set(events.EVENT_TYPES)
    assert set(ast.literal_eval(without_product)) == set(events.EVENT_TYPES) - set(events.PRODUCT_EVENT_TYPES)


def test_placeholders_of_an_order_number_match_the_contract(rules: str) -> None:
    (words,) = re.findall(r"lower\(\{\{ text \}\}\) in (\(.*?'\))\n", rules)
    backslash_n = "\\n"  # a separate condition, because databases parse a backslash differently
    assert {*ast.literal_eval(words), backslash_n} == {*events.MISSING_WORDS, "-"}
