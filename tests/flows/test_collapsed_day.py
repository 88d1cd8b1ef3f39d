"""A day with very few events stops ingestion and training. `tests/transform` tests days without events."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from boat import synthetic
from boat.errors import QualityError
from flows.ingestion import ingestion
from flows.retrain import retrain
from tests.shops import Shop

pytestmark = pytest.mark.slow

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)


def write_next_day(folder: Path, last_day: date) -> None:
    """Write an event of the next day, so that the last day of the files is complete."""
    event = {"session_id": "first", "event_time": f"{last_day + timedelta(days=1)}T00:00:01", "event_type": "pageview"}
    (folder / "next.ndjson").write_text(json.dumps(event) + "\n")


def test_a_day_with_very_few_events_stops_the_training(shop: Shop, tmp_path: Path) -> None:
    last_day = YESTERDAY - timedelta(days=1)
    synthetic.generate(tmp_path, sessions=3_000, days=10, seed=4, products=100, end=last_day, drift="collapse")
    write_next_day(tmp_path, last_day)
    with pytest.raises(QualityError, match="a fifth or more of the events"):
        ingestion(source=str(tmp_path), platform=shop.name)
    with pytest.raises(QualityError, match="a fifth or more of the events"):
        retrain(platform=shop.name)
    assert "a fifth or more of the events" in shop.newest_alert()
    assert not Path(shop.platform.store, "snapshots").exists()
