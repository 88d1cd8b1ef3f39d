"""Names, logins and time-outs of Snowflake connections."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from boat.errors import BoatError, SettingError
from boat.warehouse import connect, snowflake
from boat.warehouse.snowflake import SnowflakeWarehouse
from tests.cloud.snowflake.account import NAME, PASSPHRASE, USER, Account, new_key
from tests.cloud.snowflake.emulator import UNAVAILABLE
from tests.installation import free_ports

pytestmark = pytest.mark.cloud


def der(key: bytes) -> str:
    """Convert a private key to the format of the warehouse."""
    loaded = serialization.load_pem_private_key(key, PASSPHRASE.encode())
    return snowflake.Login.from_key(
        loaded.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        account="a",
        user="u",
        database="d",
    ).private_key


def test_a_wrong_key_is_refused_and_never_retried(account: Account) -> None:
    stranger = SnowflakeWarehouse(account.login("BOAT", key=new_key()))
    with pytest.raises(SettingError, match=rf"{NAME} as user {USER}.*JWT token is invalid"), stranger.transaction():
        pytest.fail("let in")


def test_every_statement_has_the_tag(account: Account) -> None:
    with account.database(tag="boat flow run 7").transaction() as transaction:
        transaction.query("select 'tagged' as t")
    assert {statement["tag"] for statement in account.history() if "'tagged'" in statement["sql"]} == {
        "boat flow run 7"
    }


def test_every_statement_has_a_time_limit(account: Account) -> None:
    parameters = account.database().connect_arguments()["session_parameters"]
    assert parameters["STATEMENT_TIMEOUT_IN_SECONDS"] == 3600
    assert parameters["ABORT_DETACHED_QUERY"] is True
    assert parameters["TIMEZONE"] == "UTC"


def test_an_unreachable_account_is_an_error_in_time(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snowflake, "LOGIN_TIMEOUT_SECONDS", 3)
    (closed,) = free_ports(1)
    nowhere = SnowflakeWarehouse(Account(closed, account.key).login("BOAT"))
    started = time.monotonic()
    with pytest.raises(BoatError, match=f"{NAME} as user {USER}") as error, nowhere.transaction():
        pytest.fail("connected")
    assert not isinstance(error.value, SettingError)  # retried
    assert time.monotonic() - started < 20


def test_a_broken_server_is_an_error_in_time(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snowflake, "NETWORK_TIMEOUT_SECONDS", 3)
    started = time.monotonic()
    with pytest.raises(Exception, match=r"500|timeout|retries"), account.database().transaction() as transaction:
        transaction.query(f"select 1 as n {UNAVAILABLE}")
    assert time.monotonic() - started < 30


def test_the_key_is_never_printed(account: Account) -> None:
    warehouse = account.database()
    key = der(account.key)
    assert warehouse.connect_arguments()["private_key"] == key
    for text in (repr(warehouse), repr(account.login("BOAT")), warehouse.sqlalchemy_url()):
        assert key not in text
    secret = {name for name, value in warehouse.dbt_environment().items() if key in value}
    assert secret == {"DBT_ENV_SECRET_SNOWFLAKE_PRIVATE_KEY"}  # dbt masks variables of this name in its logs


def test_a_url_can_name_a_connection_of_the_connector(account: Account, tmp_path: Path) -> None:
    warehouse = account.database()
    with warehouse.transaction() as transaction:
        (database,) = transaction.query("select current_database() as name")["name"].to_pylist()
    key = tmp_path / "key.p8"
    key.write_bytes(account.key)
    connections = tmp_path / "connections.toml"
    connections.write_text(
        f"""[boat]
        account = "{NAME}"
        user = "{USER}"
        database = "{database}"
        private_key_file = "{key}"
        private_key_file_pwd = "{PASSPHRASE}"
        """
    )
    connections.chmod(0o600)  # the connector reads only this file
    (tmp_path / "products.csv").write_text("product_id\np1\n")

    def load(name: str) -> subprocess.CompletedProcess[str]:
        url = f"snowflake://{name}?{account.options}"
        return subprocess.run(
            [sys.executable, "-m", "boat", "load", str(tmp_path / "products.csv"), "--warehouse", url],
            env={**os.environ, "SNOWFLAKE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    done = load("boat")
    assert done.returncode == 0, done.stderr
    with warehouse.transaction() as transaction:
        assert transaction.query("select product_id from raw.products").to_pylist() == [{"product_id": "p1"}]
    unknown = load("other")
    assert unknown.returncode == 1
    assert "There is no connection 'other'" in unknown.stderr


@pytest.mark.parametrize(
    "url",
    [
        "snowflake://",
        "snowflake:boat",
        "snowflake://user:pa55@account/db",
        "snowflake://boat/database",
        "snowflake://boat?password=pa55",
        "snowflake://boat?port=many",
    ],
)
def test_an_invalid_url_is_refused_before_connecting(url: str) -> None:
    with pytest.raises(SettingError) as error:
        connect(url)
    assert "pa55" not in str(error.value)
