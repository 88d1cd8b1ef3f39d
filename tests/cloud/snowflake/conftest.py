"""One emulated Snowflake account for these tests. Each test uses a separate database."""

from collections.abc import Iterator

import pytest

from tests.cloud.snowflake.account import Account, running_account


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with running_account(tmp_path_factory.mktemp("snowflake")) as running:
        yield running
