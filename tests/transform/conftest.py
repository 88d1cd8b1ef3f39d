"""A small seeded shop in a real DuckDB, and dbt in a separate process as in the flow."""

import json
import os
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from boat import raw_log, warehouse
from boat.warehouse import Warehouse
from tests.transform import forked_dbt

PROJECT = Path(__file__).parents[2] / "dbt"

WITHOUT_UNIT_TESTS = ("--exclude-resource-type", "unit_test")

Event = dict[str, Any]


class Build(NamedTuple):
    """Result of a dbt run."""

    warehouse: Warehouse
    target: Path
    code: int
    output: str

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with self.warehouse.transaction() as transaction:
            return transaction.query(sql).to_pylist()


def connect(folder: Path, events: list[Event], name: str = "warehouse") -> Warehouse:
    """Return a warehouse with these events in its raw log."""
    file = folder / "events.ndjson"
    file.write_text("".join(json.dumps(event, default=str) + "\n" for event in events))
    loaded = warehouse.connect(f"duckdb:///{folder / name}.duckdb")
    raw_log.load(loaded, file)
    return loaded


def build(loaded: Warehouse, folder: Path, *arguments: str, project: Path = PROJECT) -> Build:
    """Run `dbt build`, by default without unit tests, as the flow does."""
    return run(loaded, folder, "build", *(arguments or WITHOUT_UNIT_TESTS), project=project)


def run(loaded: Warehouse, folder: Path, *arguments: str, project: Path = PROJECT) -> Build:
    """Run dbt."""
    target = folder / "target"
    options = ["--project-dir", str(project), "--profiles-dir", str(project)]
    options += ["--log-path", str(folder / "logs")]
    environment = {**os.environ, **loaded.dbt_environment()}
    with loaded.exclusive():
        code, output = forked_dbt.run([*arguments, *options], environment, target, timeout=240)
    return Build(loaded, target, code, output)


def shop_events(seed: int = 0) -> list[Event]:
    """Return a few hundred events with pauses, equal times, duplicates and late purchases."""
    return list(_shop_events(random.Random(seed)))


def _shop_events(chance: random.Random) -> Iterator[Event]:
    number = 0
    for shopper in range(60):
        who = {"session_id": f"given-{shopper}"} if shopper % 3 == 0 else {"client_id": f"client-{shopper}"}
        time = datetime(2024, 3, 1, 23, 0) + timedelta(hours=shopper)
        for _ in range(chance.randint(1, 18)):
            time += timedelta(seconds=chance.choice([0, 0, 1, 40, 600, 1799, 1800, 1801, 9000]))
            kind = chance.choices(
                ["pageview", "detail", "click", "search", "add", "remove", "purchase"], [5, 8, 2, 1, 3, 1, 1]
            )[0]
            event = {"event_time": time.isoformat(), "event_type": kind, "url": f"/{kind}/{time.minute % 5}", **who}
            if kind not in ("pageview", "search"):
                event |= {"product_id": f"p{chance.randint(1, 30)}", "price": chance.randint(1, 9), "quantity": 1}
            for _ in range(chance.choice([1, 1, 1, 2])):
                number += 1
                yield event | {"event_id": f"e{chance.randrange(10**6):06}-{number}"}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build a healthy shop. Tests must not write to it."""
    folder = tmp_path_factory.mktemp("built")
    return run(connect(folder, shop_events()), folder, "build")
