"""A measured task shows its progress, time, CPU time and memory in the UI and in the log."""

import time
from pathlib import Path

import pytest
from prefect import flow, get_client, runtime, task

from boat import progress, settings
from tasks import measured
from tasks.blocks import Platform
from tasks.measured import Meter

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform.on_laptop(settings.load({"BOAT_HOME": str(tmp_path)}), "shop")


@task(task_run_name="load {source}")
@measured.measured
def load(platform: Platform, source: str) -> int:
    block = bytearray(200_000_000)
    for done in range(4):
        progress.report("a.csv", done, 4, "files")
    if source == "bad":
        raise ValueError("the file is bad")
    return len(block)


@flow
def ingestion(platform: Platform, source: str) -> str:
    state = load(platform, source, return_state=True)
    return f"{runtime.flow_run.id} {state.name}"


@pytest.mark.parametrize(("source", "outcome"), [("good", "done"), ("bad", "failed")])
def test_a_step_has_a_row_in_the_table_of_its_run(
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    source: str,
    outcome: str,
) -> None:
    monkeypatch.setattr(measured, "_LOG_SECONDS", 0)
    run_id, state = ingestion(platform, source).split()
    assert state == ("Completed" if source == "good" else "Failed")
    with get_client(sync_client=True) as client:
        artifacts = client._client.post("/artifacts/filter", json={}).json()
    (table,) = (artifact["data"] for artifact in artifacts if artifact["flow_run_id"] == run_id)
    (row,) = (line for line in table.splitlines() if line.startswith(f"| load {source} "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1].endswith(" s")
    assert cells[2].endswith(" s")
    size, unit = cells[3].split()
    assert float(size) * {"MB": 1, "GB": 1000}[unit] > 250
    assert cells[4:] == ["0 MB", outcome]
    messages = [record.getMessage() for record in caplog.records]
    assert any(message.startswith("█████░░░░░░░░░░░░░░░  25%  a.csv: 1 of 4 files") for message in messages)
    assert any(message.startswith(f"load {source}: ") and "s of CPU" in message for message in messages)


def test_a_meter_sees_memory_and_spill_files_that_are_gone_at_the_end(tmp_path: Path) -> None:
    with Meter(tmp_path) as meter:
        block = bytearray(100_000_000)
        spilled = tmp_path / "duckdb_temp_storage"
        spilled.write_bytes(block[:1_000_000])
        time.sleep(3 * measured._READ_SECONDS)
        spilled.unlink()
    assert meter.usage.spilled_bytes == 1_000_000
    assert meter.usage.peak_bytes > 100_000_000
    assert meter.usage.seconds >= 3 * measured._READ_SECONDS
    assert meter.usage.cpu_seconds >= 0
    with Meter(None) as meter:
        pass
    assert meter.usage.spilled_bytes is None
