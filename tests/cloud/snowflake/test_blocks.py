"""A platform reads its warehouse and all secrets from the blocks of prefect-snowflake."""

import logging
from collections.abc import Iterator

import pytest
from prefect import flow, task
from prefect.testing.utilities import prefect_test_harness
from prefect_snowflake import SnowflakeConnector, SnowflakeCredentials

from boat.errors import SettingError
from tasks.blocks import Platform
from tests.cloud.snowflake.account import NAME, PASSPHRASE, USER, Account

pytestmark = pytest.mark.cloud


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness():
        yield


def save(name: str, **secrets: object) -> None:
    credentials = SnowflakeCredentials(account=NAME, user=USER, role="BOAT", **secrets)
    credentials.save(name, overwrite=True)
    connector = SnowflakeConnector(credentials=credentials, database="BOAT_BLOCK", warehouse="BOAT", schema="RAW")
    connector.save(name, overwrite=True)


def platform(account: Account, block: str) -> Platform:
    return Platform(
        warehouse_url=f"snowflake://{block}?{account.options}",
        serving_url="local:http://127.0.0.1:1",
        tracking_uri="sqlite:///mlflow.db",
        landing="landing",
        store="store",
        reports="reports",
        reports_url="http://127.0.0.1:1",
    )


@task
def ask(block: Platform) -> str:
    with block.warehouse.transaction() as transaction:
        (row,) = transaction.query("select current_database() as name, 'asked' as what").to_pylist()
    return str(row["name"])


@flow
def asking(block: Platform) -> str:
    from prefect.runtime import flow_run

    return f"{ask(block)} {flow_run.id}"


def test_a_task_connects_through_the_block_and_is_tagged_with_its_flow_run(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    save("nightly", private_key=account.key, private_key_passphrase=PASSPHRASE)
    block = platform(account, "nightly")
    with caplog.at_level(logging.DEBUG):
        database, run = asking(block).split()
    assert database == "BOAT_BLOCK"
    assert {statement["tag"] for statement in account.history() if "'asked'" in statement["sql"]} == {f"boat {run}"}
    key = str(block.warehouse.connect_arguments()["private_key"])
    assert key not in caplog.text
    assert key not in block.json()


def test_a_block_without_a_key_is_named(account: Account) -> None:
    save("passwordish", password="not for services")
    with pytest.raises(SettingError, match="'passwordish' has no private key"):
        _ = platform(account, "passwordish").warehouse


def test_a_missing_block_is_named(account: Account) -> None:
    with pytest.raises(ValueError, match="elsewhere"):
        _ = platform(account, "elsewhere").warehouse
