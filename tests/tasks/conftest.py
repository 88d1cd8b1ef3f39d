"""A Prefect server for tests that run a small flow in this process."""

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Start a server without a port. Its first start creates a database, which takes seconds."""
    with prefect_test_harness():
        yield
