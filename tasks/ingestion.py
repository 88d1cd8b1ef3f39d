"""From landing files to the raw log. Without Prefect: `boat load SOURCE --warehouse URL`."""

from collections import Counter
from datetime import date
from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact

from boat import landing
from boat.landing import BadRows, LoadReport
from boat.replay import Replay, replay
from tasks.blocks import Platform


@task(task_run_name="replay {first} to {last}", tags=["warehouse"])
def replay_days(platform: Platform, source: str, first: date, last: date, swap: bool) -> Replay:
    """Rebuild days of the raw log from the landing files, and show where the two differ."""
    found = replay(platform.warehouse, source, first, last, swap=swap)
    lost = f"; {len(found.lost)} loaded files are no longer there" if found.lost else ""
    create_table_artifact(
        key="replay",
        description=f"Days of the raw log beside what {found.files} files of `{source}` give{lost}",
        table=[
            {
                "day": str(day.day),
                "live": day.live,
                "rebuilt": day.rebuilt,
                "only live": day.only_live,
                "only rebuilt": day.only_rebuilt,
                "state": "swapped" if day.swapped else "differs" if day.differs else "same",
            }
            for day in found.days
        ],
    )
    return found


@task(task_run_name="load {source}", tags=["warehouse"])
def load_events(platform: Platform, source: str, bad_rows: BadRows) -> LoadReport:
    """Load every new file of `source`, all of it or nothing of it, and show what was counted, and what failed why."""
    report = landing.load(platform.warehouse, source, bad_rows)
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
    reasons = sum((Counter(dict(load.reasons)) for load in report.files), Counter())
    if reasons:
        create_table_artifact(
            key="dead-letters",
            description="Rows of this load that are in `raw.dead_letters`",
            table=[{"reason": reason, "rows": rows} for reason, rows in reasons.most_common()],
        )
    return report
