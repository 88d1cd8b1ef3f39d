"""Load landing files into the raw log, and rebuild it. Without Prefect: `boat load SOURCE --warehouse URL`."""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from prefect import Task, get_run_logger, task, unmapped
from prefect.artifacts import create_table_artifact

from boat import raw_log
from boat.landing import BadRows
from boat.raw_log import LoadReport, replay
from boat.raw_log.replay import Day, FileRows, Rebuilt
from tasks.blocks import Platform
from tasks.measured import measured


@task(task_run_name="rebuild the raw log", tags=["warehouse"])
def rebuild_raw_log(platform: Platform, source: str, first: date, last: date) -> Rebuilt:
    """Load all files of the ledger again, into separate tables."""
    return replay.rebuild(platform.warehouse, source, first, last)


@task(task_run_name="compare {day}", tags=["warehouse"])
def compare_day(platform: Platform, day: date) -> Day:
    """Compare the events of a day in the raw log with the rebuilt events."""
    return replay.compare_day(platform.warehouse, day)


@task(task_run_name="compare products and dead letters", tags=["warehouse"])
def compare_files(platform: Platform) -> tuple[FileRows, ...]:
    """Compare the products and dead letters of each file with the rebuilt rows."""
    return replay.compare_files(platform.warehouse)


@task(task_run_name="check that no events would be lost", tags=["warehouse"])
def check_nothing_lost(platform: Platform, days: Sequence[Day]) -> None:
    """Refuse to replace days with events that are in no landing file.

    Raises:
        DataError: A replacement would lose events.
    """
    replay.refuse_to_lose(platform.warehouse, days)


@task(task_run_name="replace {day.day}", tags=["warehouse"])
def replace_day(platform: Platform, day: Day) -> Day:
    """Replace the events of a day by the rebuilt events, if they differ."""
    return replay.replace_day(platform.warehouse, day)


@task(task_run_name="replace products and dead letters", tags=["warehouse"])
def replace_files(platform: Platform, files: Sequence[FileRows]) -> tuple[FileRows, ...]:
    """Replace the products and dead letters of the files that differ by the rebuilt rows."""
    return replay.replace_files(platform.warehouse, files)


@task(task_run_name="drop the rebuilt tables", tags=["warehouse"])
def drop_rebuilt_tables(platform: Platform) -> None:
    """Drop the rebuilt tables."""
    replay.clear(platform.warehouse)


def map_in_batches(task: Task[..., Any], platform: Platform, items: Sequence[Any], batch_size: int) -> list[Any]:
    """Run a task on each item, one batch after the other. If a task fails, the others of its batch complete."""
    results = []
    for start in range(0, len(items), batch_size):
        futures = task.map(unmapped(platform), items[start : start + batch_size])
        for future in futures:
            future.wait()
        results += [future.result() for future in futures]
    return results


def publish_comparison(rebuilt: Rebuilt, days: Sequence[Day], files: Sequence[FileRows], source: str) -> None:
    """Publish the comparison: every day, and the files that differ."""
    lost = f"; {len(rebuilt.lost)} loaded files are missing" if rebuilt.lost else ""
    rows = [("events", str(day.day), ", ".join(day.examples), day) for day in days]
    rows += [(file.table, file.file or "(no file)", "", file) for file in files if file.differs]
    create_table_artifact(
        key="raw-log-comparison",
        description=f"Raw log compared with {rebuilt.files} files of `{source}`{lost}",
        table=[
            {
                "table": table,
                "day or file": part,
                "live": rows.live,
                "rebuilt": rows.rebuilt,
                "only live": rows.only_live,
                "only rebuilt": rows.only_rebuilt,
                "state": "replaced" if rows.replaced else "differs" if rows.differs else "same",
                "examples": examples,
            }
            for table, part, examples, rows in rows
        ],
    )


@task(task_run_name="load {source}", tags=["warehouse"])
@measured
def load_events(platform: Platform, source: str, bad_rows: BadRows) -> LoadReport:
    """Load the new files of `source`: if one is refused, no file is loaded. Publish row counts and bad rows."""
    report = raw_log.load(platform.warehouse, source, bad_rows)
    create_table_artifact(
        key="events-loaded",
        description=f"Files of `{source}`: received = accepted + duplicate + failed",
        table=[
            {
                "file": Path(load.source_file).name,
                "kind": load.kind,
                "received": load.received,
                "accepted": load.accepted,
                "duplicate": load.duplicate,
                "failed": load.failed,
                "loaded before": "yes" if load.already_loaded else "",
            }
            for load in report.files
        ],
    )
    _publish_not_loaded(report)
    reasons = sum((Counter(dict(load.reasons)) for load in report.files), Counter())
    if reasons:
        counted = ", ".join(f"{rows:,} with {reason}" for reason, rows in reasons.most_common())
        get_run_logger().warning("Rows in quarantine (raw.dead_letters): %s.", counted)
        create_table_artifact(
            key="dead-letters",
            description="Rows of this load in quarantine: `raw.dead_letters`",
            table=[{"reason": reason, "rows": rows} for reason, rows in reasons.most_common()],
        )
    return report


def _publish_not_loaded(report: LoadReport) -> None:
    """Warn about files that were not loaded and about ambiguous columns. List unused rows."""
    logger = get_run_logger()
    rows = [{"file": file.name, "notice": "not loaded", "reason": f"it {file.reason}"} for file in report.ignored]
    rows += [
        {"file": load.source_file, "notice": "note", "reason": note} for load in report.files for note in load.notes
    ]
    for row in rows:
        logger.warning("%s: %s: %s.", row["file"], row["notice"], row["reason"])
    rows += [
        {"file": load.source_file, "notice": f"{count:,} rows not used", "reason": f"event type {name}"}
        for load in report.files
        for name, count in load.unused
    ]
    if rows:
        create_table_artifact(
            key="not-loaded", description="Files and rows that were not loaded, and notes", table=rows
        )
