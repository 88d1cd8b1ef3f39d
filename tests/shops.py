"""Small shops on a running installation, and flows called in this process that report to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from boat import synthetic
from boat.kinds import KindName
from tasks.blocks import GatePolicy, Platform, RetryPolicy
from tests.installation import Installation

SESSIONS = 8000
"""Enough for some buyers on the test day."""
BRIEF: dict[KindName, dict[str, Any]] = {
    "recommend": {"epochs": 2, "refit_epochs": 1},
    "intent": {"members": 4, "rounds": 40, "epochs": 3},
}
"""Parameters for quick trainings, if the quality of the models does not matter."""


@dataclass(frozen=True)
class Shop:
    """A shop without data, and its platform block."""

    name: str
    platform: Platform
    installation: Installation

    def count(self, table: str) -> int:
        """Count the rows of a table."""
        with self.platform.warehouse.transaction() as transaction:
            return int(transaction.query(f"select count(*) as rows from {table}")["rows"][0].as_py())

    def plant(self, sql: str) -> None:
        """Execute SQL to change data without a flow."""
        with self.platform.warehouse.transaction() as transaction:
            transaction.execute(sql)

    def newest_alert(self) -> str:
        """Return title and text of the newest alert."""
        alert = self.installation.alerts()[-1]
        return f"{alert['title']} {alert['message']}"


@pytest.fixture(scope="session")
def shop_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate landing files of a small synthetic shop."""
    folder = tmp_path_factory.mktemp("landing")
    synthetic.generate(folder, sessions=SESSIONS, days=8, seed=3, products=150)
    return folder


def few_buyers() -> GatePolicy:
    """Return the gate policy of intent models with a minimum that a small shop of the tests has on its test day."""
    policy: GatePolicy = GatePolicy.default_of("intent").copy(update={"minimum_buyers": 5})
    return policy


@pytest.fixture
def client(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """Yield the installation, which receives the runs of flows called in the test."""
    for name, value in installation.environment.items():
        monkeypatch.setenv(name, value)
    with installation.as_client():
        RetryPolicy(retries=1, delay_seconds=1).save("default", overwrite=True)
        few_buyers().save("intent", overwrite=True)
        yield installation


@pytest.fixture
def shop(client: Installation, request: pytest.FixtureRequest) -> Shop:
    """Return a shop named after the test."""
    name = request.node.name.replace("_", "-")[:60].strip("-")
    return Shop(name, client.platform(name), client)
