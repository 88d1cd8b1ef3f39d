"""Measure the accuracy of models by the age of their training data, and of the released model among them.

The newest day of a file of product views is the test. All earlier views are loaded and built, and a snapshot is taken.
As in `retrain`, a model is trained without the snapshot's own test days, and fitted again on all days for the release.
Models with the same parameters are trained on everything up to some days before the test. The released model should be
as accurate as the one with an age of 0 days.

    python benchmarks/freshness.py --views events.parquet [--ages 0 1 2 3 6] [--model blend]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import accuracy
import views
from bars import at_most, conclude
from boat import kinds, raw_log, snapshot, warehouse
from boat.models import examples, train
from boat.models.export import export_fitted
from boat.recommend import family
from boat.recommend.parameters import RecommendParameters
from growth import build

LIMIT = 0.005
"""Largest MRR@20 that the released model may lack."""


@dataclass(frozen=True)
class Row:
    """A model and its figures on the test day."""

    name: str
    figures: dict[str, float]
    cpu_seconds: float


def last_day(path: Path) -> datetime:
    """Return the midnight before the newest event."""
    newest: datetime = pc.max(pq.read_table(path, columns=["event_time"])["event_time"]).as_py()
    return newest.replace(hour=0, minute=0, second=0, microsecond=0)


def take(path: Path, day: datetime, folder: Path) -> Path:
    """Load and build the events before a day, and return a snapshot of them."""
    events = pq.read_table(path)
    before = events.filter(pc.less(events["event_time"], pa.scalar(day, events["event_time"].type)))
    pq.write_table(before, folder / "events.parquet")
    shop = warehouse.connect(f"duckdb:///{folder}/warehouse.duckdb")
    raw_log.load(shop, folder / "events.parquet")
    build(shop, folder)
    return Path(snapshot.take(shop, folder / "store").uri)


def aged(folder: Path, day: datetime, ages: list[int], parameters: RecommendParameters, output: Path) -> Iterator[Row]:
    """Train a model on everything up to some days before the test. Its newest days are for validation."""
    split = snapshot.read(folder).split
    for age in ages:
        end = day - timedelta(days=age)
        shifted = replace(split, validation_from=end - (split.test_from - split.validation_from), test_from=end)
        parts = examples.read_parts(folder / snapshot.RECOMMEND, shifted, ["train", "validation", "fit"])
        began = time.process_time()
        fitted = family.fit(*parts, parameters, lambda epoch: None)
        export_fitted(fitted, output, kind="recommend", parameters=asdict(parameters))
        yield Row(f"{age} days old", {}, time.process_time() - began)


def retrained(folder: Path, parameters: RecommendParameters, output: Path) -> Iterator[Row]:
    """Train and refit as `retrain` does, and yield the evaluated and the released model."""
    kind = kinds.load("recommend")
    began = time.process_time()
    train.train(kind, folder, output.parent, parameters)
    trained = time.process_time()
    yield Row("evaluated", {}, trained - began)
    began = time.process_time()
    train.refit(kind, folder, output.parent, parameters, output.parent / train.WARM_START)
    yield Row("released", {}, time.process_time() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--views", type=Path, required=True, help="events.parquet with views of many days")
    parser.add_argument("--ages", type=int, nargs="+", default=[0, 1, 2, 3, 6], help="days; 0 is needed")
    parser.add_argument("--model", default=RecommendParameters.model)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    parameters = RecommendParameters(model=options.model, seed=options.seed, max_seconds=3600)
    day = last_day(options.views)
    all_views = views.read(options.views)
    test = views.sessions(all_views[all_views["started_at"] >= pd.Timestamp(day, tz="UTC")])
    rows = []
    with tempfile.TemporaryDirectory(prefix="boat-freshness-") as name:
        folder = take(options.views, day, Path(name))
        split = snapshot.read(folder).split
        output = Path(name) / "model" / "model.tar.gz"
        for source in (
            retrained(folder, parameters, output),
            aged(folder, day, sorted({0, *options.ages}), parameters, output),
        ):
            for row in source:
                scored = accuracy.score(output, test, "all", 1)
                chosen = {key: round(scored[key], 4) for key in ("targets", "hr_at_20", "mrr_at_20")}
                rows.append(Row(row.name, chosen, round(row.cpu_seconds, 1)))
                print(row.name, chosen, rows[-1].cpu_seconds, file=sys.stderr, flush=True)
    by_name = {row.name: row for row in rows}
    lost = round(by_name["0 days old"].figures["mrr_at_20"] - by_name["released"].figures["mrr_at_20"], 4)
    figures: dict[str, float | str] = {"test_days_before": (day - split.test_from).days, "mrr_at_20_lost": lost}
    for row in rows:
        label = row.name.replace(" ", "_")
        figures |= {f"{label}_{key}": value for key, value in row.figures.items() if key != "targets"}
        figures[f"{label}_cpu_seconds"] = row.cpu_seconds
    return conclude("freshness", figures, at_most("mrr_at_20_lost", lost, LIMIT), model=options.model)


if __name__ == "__main__":
    sys.exit(main())
