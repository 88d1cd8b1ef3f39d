"""Nights on Snowflake: incremental tables are equal to a full build on DuckDB."""

import random
from pathlib import Path

import pytest

from boat import warehouse
from tests.cloud.snowflake.account import Account
from tests.transform.conftest import build, shop_events
from tests.transform.test_incremental import MODELS, arrive, reopened_sessions

pytestmark = pytest.mark.cloud

MARTS = {
    "fct_session_events": "session_key, position",
    "fct_sessions": "session_key",
    "recommend_examples": "session_key, position",
    "intent_examples": "session_key, position",
    "kpi_daily": "shop, day",
    "kpi_hourly": "shop, hour",
}


def test_late_events_give_the_same_tables_as_a_full_build(account: Account, tmp_path: Path) -> None:
    events = shop_events(5)
    shuffled = random.Random(5).sample(events, len(events))
    for name in ("snowflake", "duckdb"):
        (tmp_path / name).mkdir()
    grown = account.database()
    loads = (shuffled[:250], shuffled[250:400], shuffled[400:])
    for load in loads:
        arrive(grown, tmp_path / "snowflake", load)
        result = build(grown, tmp_path / "snowflake", *MODELS)
        assert result.code == 0, result.output
    assert len(reopened_sessions(result)) > 10
    plain = warehouse.connect(f"duckdb:///{tmp_path / 'duckdb' / 'warehouse.duckdb'}")
    for load in loads:
        arrive(plain, tmp_path / "duckdb", load)
    at_once = build(plain, tmp_path / "duckdb", *MODELS)
    for mart, order in MARTS.items():
        query = f"select * from marts.{mart} order by {order}"
        assert result.rows(query) == at_once.rows(query), mart
    live = "select * from staging.live_sessions"
    assert result.rows(live) == []
    arrive(grown, tmp_path / "snowflake", [shuffled[0] | {"event_id": "tail", "event_time": "2024-05-01T00:00:00"}])
    assert [row["event_count"] for row in result.rows(live)] != []
