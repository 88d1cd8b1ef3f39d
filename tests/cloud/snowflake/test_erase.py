"""A client is erased from Snowflake by the same rules, and its files are recorded as erased."""

import json
from pathlib import Path

import pytest

from boat import landing, raw_log
from boat.raw_log.erase import erase
from tests.cloud.snowflake.account import Account

pytestmark = pytest.mark.cloud


def test_an_erased_client_does_not_come_back(account: Account, tmp_path: Path) -> None:
    warehouse, folder = account.database(), tmp_path / "landing"
    folder.mkdir()
    base = {"event_type": "pageview", "event_time": "2024-01-01T10:00:00Z"}
    shoppers = [
        {"event_id": "1", "client_id": "it's anna", "session_id": "s1"},
        {"event_id": "2", "session_id": "s1"},
        {"event_id": "3", "client_id": "b", "session_id": "s3"},
        {"event_id": "4", "client_id": "it's anna", "session_id": "s4", "event_time": "never"},
        {"event_id": "5", "client_id": "cookie", "session_id": "s5", "user_id": "it's anna"},
        {"event_id": "6", "client_id": "cookie", "session_id": "s6", "url": "/a?cid=it%27s%20anna"},
        {"event_id": "7", "client_id": "b", "session_id": "s7", "event_type": "search", "query": "it's anna"},
        {"event_id": "8", "client_id": "it's anna", "session_id": "s7"},
        {"event_id": "9", "session_id": "s7"},
    ]
    old = "".join(json.dumps(base | shopper) + "\n" for shopper in shoppers)
    (folder / "a.ndjson").write_text(old)
    raw_log.load(warehouse, folder, landing.BadRows("quarantine"))
    with warehouse.transaction() as transaction:
        transaction.execute("create schema if not exists marts")
        transaction.execute(
            "create table marts.views as select shop || ':' || session_id as session_key from raw.events"
        )
        transaction.execute("insert into marts.views values ('shop:s7:client:it''s anna'), ('shop:it''s anna:17')")
    proof = erase(warehouse, folder, tmp_path / "snapshots", "shop", "it's anna", dry_run=False)
    assert {location.name: (location.before, location.after) for location in proof.locations} == {
        "a.ndjson": (6, 0),
        "raw.events": (5, 0),
        "raw.dead_letters": (1, 0),
        "marts.views": (4, 0),
    }
    assert [(note.name, note.rows) for note in proof.mentions] == [
        ("a.ndjson", 1),
        ("a.ndjson", 1),
        ("raw.events.query", 1),
        ("raw.events", 1),
    ]
    assert proof.is_complete
    assert any("Time Travel" in text for text in proof.not_looked_at)
    (folder / "backup.ndjson").write_text(old)
    report = raw_log.load(warehouse, folder)
    assert [file.already_loaded for file in report.files] == [True, True]
    with warehouse.transaction() as transaction:
        assert transaction.query("select event_id from raw.events order by 1")["event_id"].to_pylist() == [
            "3",
            "7",
            "9",
        ]
        (row,) = transaction.query(
            "select received, accepted, duplicate, failed from raw.loads where kind = 'events'"
        ).to_pylist()
    assert row == {"received": 3, "accepted": 3, "duplicate": 0, "failed": 0}
