"""Progress is reported where the work is done, and described with amount, speed and time left."""

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from boat import progress, raw_log
from boat.progress import Progress, Speed
from boat.transform.dbt import RunningBuild
from boat.warehouse.duckdb import DuckDBWarehouse


class Clock:
    """Returns a time that tests set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def reports() -> list[Progress]:
    return []


def test_a_report_reaches_only_the_follower_of_its_block(reports: list[Progress]) -> None:
    progress.report("nobody follows")
    with progress.follow(reports.append):
        progress.report("reading", 1, 2, "files")
        with progress.follow(lambda inner: None):
            progress.report("for the inner block")
    progress.report("nobody follows any more")
    assert reports == [Progress("reading", 1, 2, "files")]


def test_a_poll_runs_in_another_thread_and_ends_with_its_block(reports: list[Progress]) -> None:
    polled = threading.Event()

    def poll() -> None:
        progress.report("polled")
        polled.set()

    with progress.follow(reports.append), progress.polled(poll, seconds=0.01):
        assert polled.wait(10)
    count = len(reports)
    assert threading.active_count() < 100
    assert len(reports) == count
    assert set(reports) == {Progress("polled")}


@pytest.mark.parametrize(
    ("seconds", "state", "text"),
    [
        (1, Progress("a.csv", 50, 1000, "rows"), "a.csv: 50 of 1,000 rows"),
        (10, Progress("a.csv", 250, 1000, "rows"), "a.csv: 250 of 1,000 rows, 25 rows/s, 30 s left"),
        (1000, Progress("a.csv", 5e9, 50e9, "bytes"), "a.csv: 5.0 GB of 50.0 GB, 5 MB/s, 2 h 30 min left"),
        (600, Progress("a.csv", 0.5, 3), "a.csv: 17%, 50 min left"),
        (600, Progress("counting"), "counting"),
    ],
    ids=["too early", "rows", "bytes", "share", "unknown"],
)
def test_a_description_has_amount_speed_and_time_left(seconds: float, state: Progress, text: str) -> None:
    clock = Clock()
    speed = Speed(clock)
    speed.describe(Progress(state.stage, 0, state.total, state.unit))
    clock.now = seconds
    assert speed.describe(state) == text


def test_the_speed_begins_again_with_another_amount() -> None:
    clock = Clock()
    speed = Speed(clock)
    for clock.now, stage, done in ((0, "epoch 1", 0), (100, "epoch 1", 100), (100, "epoch 2", 0)):
        speed.describe(Progress(stage, done, 100, "examples"))
    clock.now = 110
    text = speed.describe(Progress("epoch 2", 50, 100, "examples"))
    assert text == "epoch 2: 50 of 100 examples, 5 examples/s, 10 s left"


def test_a_load_reports_the_bytes_of_its_files(tmp_path: Path, reports: list[Progress]) -> None:
    lines = ["event_type,product_id,event_time,session_id"]
    lines += [f"view,p{number},2026-01-01 00:00:{number % 60:02},s{number}" for number in range(100)]
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("\n".join(lines).replace("view", "view" if name == "a.csv" else "add") + "\n")
    size = (tmp_path / "a.csv").stat().st_size
    with progress.follow(reports.append):
        raw_log.load(DuckDBWarehouse(f"duckdb:///{tmp_path / 'shop.duckdb'}"), tmp_path)
    total = size + (tmp_path / "b.csv").stat().st_size
    assert [report for report in reports if report.done in (size, total)] == [
        Progress("a.csv", size, total, "bytes"),
        Progress("b.csv", total, total, "bytes"),
    ]


def test_a_long_statement_says_how_far_it_is(tmp_path: Path) -> None:
    shares: list[float] = []
    warehouse = DuckDBWarehouse(f"duckdb:///{tmp_path / 'shop.duckdb'}?threads=1")
    rows = 500_000
    with warehouse.transaction() as transaction, progress.follow(lambda report: None):
        while not any(0 < share < 1 for share in shares) and rows < 50_000_000:  # until it takes more than a second
            transaction.execute(
                f"create or replace temp table t as select range, md5(cast(range as varchar)) as text "
                f"from range({rows})"
            )
            with transaction.watched(shares.append):
                transaction.query("select text, count(*) as n from t group by text order by n desc, text limit 1")
            rows *= 3
    assert any(0 < share < 1 for share in shares)
    assert all(0 <= share <= 1 for share in shares)


def test_a_running_dbt_is_followed_by_its_log(tmp_path: Path, reports: list[Progress]) -> None:
    log = tmp_path / "dbt.log"
    log.write_text("10:00:00 [info ] [Thread-1 (]: 1 of 2 OK created sql view model old.build ...... [OK in 0.2s]\n")
    build = RunningBuild(log)
    with progress.follow(reports.append):
        build.report()
        with log.open("a") as file:
            file.write("10:01:00 [info ] [Thread-1 (]: 1 of 3 START sql table model marts.fct ....... [RUN]\n")
            file.write("10:01:01 [info ] [Thread-2 (]: 2 of 3 START test unique_fct .... [RUN]\n10:01:02 [info ] [Thr")
        build.report()
        with log.open("a") as file:
            file.write("ead-1 (]: 1 of 3 OK created sql table model marts.fct ...... [OK in 1.00s]\n")
            file.write("10:01:03 [info ] [Thread-2 (]: 2 of 3 PASS unique_fct ...... [PASS in 0.1s]\n")
        build.report()
        log.write_text("10:01:04 [info ] [Thread-2 (]: 3 of 3 NO-OP exposure kpis ..... [NO-OP in 0.0s]\n")
        build.report()
    assert [(report.stage, report.done, report.total) for report in reports] == [
        ("dbt starts", 0, 0),
        ("test unique_fct", 0, 3),
        ("test unique_fct", 2, 3),
        ("test unique_fct", 3, 3),
    ]


def test_a_terminal_shows_one_line_that_changes() -> None:
    controller, terminal = pty.openpty()
    code = "from boat import progress\nwith progress.on_terminal(): progress.report('a.csv', 1, 2, 'files')"
    subprocess.run([sys.executable, "-c", code], stderr=terminal, check=True)
    shown = os.read(controller, 10_000).decode()
    assert shown == "\r\x1b[K██████████░░░░░░░░░░  50%  a.csv: 1 of 2 files\r\x1b[K"
