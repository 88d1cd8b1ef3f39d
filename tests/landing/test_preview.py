"""A dry run shows the columns, events and bad rows of a file, and writes nothing."""

from pathlib import Path

import pytest

from boat.__main__ import main

FILE = """timestamp,event,user_id,client_id,sku,colour
2024-05-01 10:00:00,view,u1,c1,p1,red
2024-05-01 11:00:00,purchase,u1,c1,p2,
2024-05-01 12:00:00,scroll,u1,c1,,
20240501100000,view,u1,c1,p1,
"""


def test_a_dry_run_shows_columns_events_and_bad_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "events.csv"
    file.write_text(FILE)
    assert main(["load", str(file), "--dry-run"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "events.csv (events): 2 rows can be loaded"
    for expected in (
        "event_time      from timestamp",
        "product_id      from sku",
        "kept in extra   user_id, colour",
        "note: client_id is read from 'client_id'; 'user_id' could be it too: kept in extra",
        "by type: detail 1, purchase 1",
        "from 2024-05-01 10:00:00 to 2024-05-01 11:00:00 UTC",
        "1 clients, 0 session ids, 2 products",
        "not used: scroll 1",
        "would be refused: 1 row, time_out_of_range, such as",
    ):
        assert expected in lines
    assert any(line.startswith("events.csv:5: event_time '20240501100000'") for line in lines)
    assert list(tmp_path.iterdir()) == [file], "something was written"


def test_other_files_are_shown_if_a_file_cannot_be_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text(FILE)
    (tmp_path / "b.csv").write_text("name,colour\nmug,red\n")
    (tmp_path / "c.xlsx").write_bytes(b"PK")
    assert main(["load", str(tmp_path), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "a.csv (events): 2 rows can be loaded" in printed
    assert "b.csv (events): cannot be loaded\n  b.csv:1: the column event_time is missing." in printed
    assert "c.xlsx: the file has an unknown file type and would not be loaded" in printed


def test_only_a_dry_run_needs_no_warehouse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text(FILE)
    assert main(["load", str(tmp_path)]) == 1
    assert "--dry-run" in capsys.readouterr().err
