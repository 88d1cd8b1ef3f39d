"""From landing files to the raw log. Without Prefect: `boat load SOURCE --warehouse URL`."""

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


@task(task_run_name="rebuild the raw log", tags=["warehouse"])
def rebuild_raw_log(platform: Platform, source: str, first: date, last: date) -> Rebuilt:
    """Load the landing files that were loaded before once more, beside the raw log."""
    return replay.rebuild(platform.warehouse, source, first, last)


@task(task_run_name="compare {day}", tags=["warehouse"])
def compare_day(platform: Platform, day: date) -> Day:
    """Hold the live events of a day against the rebuilt ones."""
    return replay.compare_day(platform.warehouse, day)


@task(task_run_name="compare products and dead letters", tags=["warehouse"])
def compare_files(platform: Platform) -> tuple[FileRows, ...]:
    """Hold what files gave beside events against what they give now."""
    return replay.compare_files(platform.warehouse)


@task(task_run_name="check that no events would be lost", tags=["warehouse"])
def refuse_to_lose(platform: Platform, days: Sequence[Day]) -> None:
    """Stop before anything is swapped that the files cannot give back."""
    replay.refuse_to_lose(platform.warehouse, days)


@task(task_run_name="replace {day.day}", tags=["warehouse"])
def swap_day(platform: Platform, day: Day) -> Day:
    """Put the rebuilt events of a day in the place of the live ones, if they differ."""
    return replay.swap_day(platform.warehouse, day)


@task(task_run_name="replace products and dead letters", tags=["warehouse"])
def swap_files(platform: Platform, files: Sequence[FileRows]) -> tuple[FileRows, ...]:
    """Put the rebuilt rows of the files that differ in the place of the live ones."""
    return replay.swap_files(platform.warehouse, files)


@task(task_run_name="drop the rebuilt tables", tags=["warehouse"])
def clear_replay(platform: Platform) -> None:
    """Leave the warehouse with one raw log."""
    replay.clear(platform.warehouse)


def in_turns(task: Task[..., Any], platform: Platform, items: Sequence[Any], at_once: int) -> list[Any]:
    """Run a task on each item, so many at once; all of a turn have ended when one of them fails."""
    done = []
    for start in range(0, len(items), at_once):
        futures = task.map(unmapped(platform), items[start : start + at_once])
        for future in futures:
            future.wait()
        done += [future.result() for future in futures]
    return done


def show_replay(rebuilt: Rebuilt, days: Sequence[Day], files: Sequence[FileRows], source: str) -> None:
    """Publish what was compared: every day, and the files that differ."""
    lost = f"; {len(rebuilt.lost)} loaded files are no longer there" if rebuilt.lost else ""
    rows = [("events", str(day.day), ", ".join(day.examples), day) for day in days]
    rows += [(file.table, file.file or "(of no file)", "", file) for file in files if file.differs]
    create_table_artifact(
        key="replay",
        description=f"The raw log beside what {rebuilt.files} files of `{source}` give{lost}",
        table=[
            {
                "table": table,
                "day or file": place,
                "live": rows.live,
                "rebuilt": rows.rebuilt,
                "only live": rows.only_live,
                "only rebuilt": rows.only_rebuilt,
                "state": "swapped" if rows.swapped else "differs" if rows.differs else "same",
                "such as": examples,
            }
            for table, place, examples, rows in rows
        ],
    )


@task(task_run_name="load {source}", tags=["warehouse"])
def load_events(platform: Platform, source: str, bad_rows: BadRows) -> LoadReport:
    """Load every new file of `source`, all of it or nothing of it, and show what was counted, and what failed why."""
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
    _show_left_out(report)
    reasons = sum((Counter(dict(load.reasons)) for load in report.files), Counter())
    if reasons:
        counted = ", ".join(f"{rows:,} of {reason}" for reason, rows in reasons.most_common())
        get_run_logger().warning("Kept apart in raw.dead_letters: %s.", counted)
        create_table_artifact(
            key="dead-letters",
            description="Rows of this load that are in `raw.dead_letters`",
            table=[{"reason": reason, "rows": rows} for reason, rows in reasons.most_common()],
        )
    return report


def _show_left_out(report: LoadReport) -> None:
    """Warn of files that were not loaded and of columns that could be understood in two ways; list unused rows."""
    logger = get_run_logger()
    rows = [{"file": ignored.name, "what": "not loaded", "why": f"it {ignored.reason}"} for ignored in report.ignored]
    rows += [{"file": load.source_file, "what": "note", "why": note} for load in report.files for note in load.notes]
    for row in rows:
        logger.warning("%s: %s: %s.", row["file"], row["what"], row["why"])
    rows += [
        {"file": load.source_file, "what": f"{count:,} rows not used", "why": f"event type {name}"}
        for load in report.files
        for name, count in load.unused
    ]
    if rows:
        create_table_artifact(
            key="not-loaded", description="Files and rows that were not loaded, and notes", table=rows
        )
