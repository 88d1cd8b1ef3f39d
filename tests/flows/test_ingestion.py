"""`ingestion` loads events and builds and checks tables. An error stops it and is named."""

import json
import shutil
from pathlib import Path

import pytest

from boat import raw_log
from boat.errors import DataError, QualityError, TransformError
from flows.ingestion import ingestion
from tests.shops import SESSIONS, Shop

pytestmark = pytest.mark.slow


@pytest.mark.timeout(900)  # nine runs
def test_ingestion_builds_checked_tables_until_a_check_fails(shop: Shop, shop_files: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    shutil.copytree(shop_files, files)
    header = "session_id,event_time,event_type,product_id"
    (files / "hour.csv").write_text(f"{header}\ns2,yesterday,detail,p2\n")

    shutil.rmtree(shop.platform.reports, ignore_errors=True)  # another test may have published documentation

    # Every row is in a session, except one in quarantine.
    ingestion(source=str(files), platform=shop.name, on_bad_rows="quarantine")
    assert shop.count("raw.dead_letters where reason = 'not_a_time' and source_line = 2") == 1
    events, sessions = shop.count("raw.events"), shop.count("marts.fct_sessions")
    assert sessions == SESSIONS
    docs = Path(shop.platform.reports, "dbt.html")
    assert "recommend_examples" in docs.read_text()

    # A second run changes nothing, and says so.
    docs.write_text("")
    state = ingestion(source=str(files), platform=shop.name, on_bad_rows="quarantine", return_state=True)
    assert (state.is_completed(), state.name) == (True, "Unchanged")
    freshness = shop.installation.api("GET", "/artifacts/freshness/latest")
    assert '"raw.loads"' in freshness["data"], "freshness is not checked without new files"
    assert (shop.count("raw.events"), shop.count("marts.fct_sessions")) == (events, sessions)

    # A new load is built, and its rows are checked.
    (files / "next.csv").write_text(f"{header}\ns3,2026-01-01T10:00:00,detail,p2\n")
    ingestion(source=str(files), platform=shop.name, on_bad_rows="quarantine")
    assert shop.count("marts.fct_sessions") == sessions + 1
    assert docs.read_text() == "", "the documentation is generated although no model has changed"
    quality = shop.installation.api("GET", "/artifacts/quality/latest")
    assert "on the rows of the newest loads" in quality["description"]
    assert {row["rows"] for row in json.loads(quality["data"])} == {"all", "changed"}

    # A bad row that an earlier version loaded stops nothing. A shop without new events sends an alert.
    shop.plant("update raw.events set event_type = 'teleport' where source_line = 2")
    shop.plant("update raw.events set received_at = current_date - interval 3 day")
    ingestion(source=str(files), platform=shop.name)
    assert "The shop shop sends no events" in shop.newest_alert(), "a run without new loads sends no alert"
    ingestion(source=str(files), platform=shop.name, full_refresh=True)

    # A failed dbt test stops the flow. The error names the test and its SQL file.
    for _ in range(2):
        shop.plant("insert into raw.events select * replace ('twice' as load_id) from raw.events where source_line = 3")
    with pytest.raises(TransformError, match=r"unique_together_stg_events") as raised:
        ingestion(source=str(files), platform=shop.name, full_refresh=True)
    assert ".sql" in str(raised.value)
    assert "unique_together_stg_events" in shop.newest_alert()
    shop.plant("delete from raw.events where load_id = 'twice'")

    # A critical expectation stops the flow, and the next run checks everything again, although nothing is new.
    ingestion(source=str(files), platform=shop.name, full_refresh=True)
    shop.plant("update marts.fct_session_events set event_time = '2999-01-01' where position = 2")
    Path(shop.platform.store, "checked.json").unlink()
    for _ in range(2):
        with pytest.raises(QualityError, match=r"event_time"):
            ingestion(source=str(files), platform=shop.name)
    assert "event_time" in shop.newest_alert()


def test_a_bad_file_loads_nothing_and_the_alert_names_file_line_and_field(shop: Shop, tmp_path: Path) -> None:
    header, good = "session_id,event_time,event_type,product_id", "s1,2026-01-01T10:00:00,detail,p1"
    (tmp_path / "good.csv").write_text(f"{header}\n{good}\n")
    raw_log.load(shop.platform.warehouse, tmp_path / "good.csv")
    (tmp_path / "hour.csv").write_text(f"{header}\ns2,2026-01-01T11:00:00,detail,p1\ns2,yesterday,detail,p2\n")
    with pytest.raises(DataError, match=r"hour\.csv:3.*event_time.*yesterday"):
        ingestion(source=str(tmp_path), platform=shop.name)
    assert shop.count("raw.events") == 1
    alert = shop.newest_alert()
    assert "ingestion failed" in alert
    assert "hour.csv:3" in alert
