"""The setup of an account: valid Snowflake SQL, idempotent, with least privileges."""

import re

import pytest
import sqlglot
from sqlglot import exp

from tests.cloud.snowflake.account import SETUP, Account, emulated_setup, statements

pytestmark = pytest.mark.cloud

STATEMENTS = statements(SETUP.read_text())
GRANTS = [text.lower() for text in STATEMENTS if text.lower().startswith("grant")]
# Statements that sqlglot cannot parse.
UNPARSED = re.compile(
    r"""create\ (role|user|resource\ monitor)\ if\ not\ exists\ |alter\ (warehouse|user)\ \w+\ set\s|
    grant\ role\ \w+\ to\ (role|user)\ \w+$|grant\ (usage|select)\ on\ (all|future)\ \w+\ in\ (schema|database)\ """,
    re.X,
)


@pytest.mark.parametrize("text", STATEMENTS, ids=lambda text: " ".join(text.split())[:60])
def test_a_statement_is_valid_and_repeatable(text: str) -> None:
    parsed = sqlglot.parse_one(text, read="snowflake")
    if isinstance(parsed, exp.Command):
        assert UNPARSED.match(text), f"not parsed as Snowflake SQL: {text}"
    if text.startswith("create"):
        assert " if not exists " in " ".join(text.split())
    else:
        assert text.split(maxsplit=1)[0] in ("use", "alter", "grant")


def test_the_setup_can_run_repeatedly(account: Account) -> None:
    warehouse = account.database()
    with warehouse.transaction() as transaction:
        transaction.execute("insert into raw.landing_rows select parse_json('{}')")
    with warehouse.transaction() as transaction:
        (row,) = transaction.query("select current_database() as name").to_pylist()
        statements = emulated_setup(row["name"])
        assert len(statements) == 6
        for text in statements:
            transaction.execute(text)
        assert transaction.query("select count(*) as n from raw.landing_rows").to_pylist() == [{"n": 1}]


def rights(role: str) -> set[str]:
    """Return the direct privileges of a role, as `privilege on kind`."""
    privileges = set()
    for grant in GRANTS:
        match = re.match(r"grant (.+) on (.+) to role (\w+)$", " ".join(grant.split()))
        if match and match[3] == role:
            privileges |= {f"{privilege} on {match[2]}" for privilege in match[1].split(", ")}
    return privileges


def test_no_privilege_is_granted_on_all_objects() -> None:
    for grant in GRANTS:
        assert " all privileges" not in grant
        assert "ownership" not in grant
        assert " to role public" not in grant
        assert "grant role accountadmin" not in grant


def test_readers_write_snapshot_files_only() -> None:
    writing = {right for right in rights("boat_read") if not right.startswith(("usage", "select", "read"))}
    assert writing == {"write on stage boat.raw.snapshots"}


def test_transforming_cannot_change_the_raw_log() -> None:
    changing = {right for right in rights("boat_transform") if not right.startswith(("usage", "select"))}
    assert changing == {"create schema on database boat"}


def test_loading_can_access_the_raw_log_only() -> None:
    objects = {right.partition(" on ")[2] for right in rights("boat_load")}
    assert objects == {
        "warehouse boat",
        "database boat",
        "schema boat.raw",
        "table boat.raw.landing_rows",
        "table boat.raw.turn",
        "stage boat.raw.landing",
    }


def test_the_warehouse_suspends_and_has_limits() -> None:
    script = " ".join(SETUP.read_text().lower().split())
    for setting in (
        "warehouse_size = 'xsmall'",
        "auto_suspend = 60",
        "statement_timeout_in_seconds = 3600",
        "alter warehouse boat set resource_monitor = boat",
        "do suspend_immediate",
    ):
        assert setting in script


def test_the_user_of_the_flows_has_a_key_and_no_password() -> None:
    (user,) = [text for text in STATEMENTS if text.startswith("create user")]
    assert "type = service" in user
    assert "password" not in SETUP.read_text().lower()
