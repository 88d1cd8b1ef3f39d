"""Measure the accuracy of exported recommenders, trained on one file of sessions and tested on another.

Every item of a test session after the first is a target, given the items before it (`--targets last`: only the last
item). An unknown target is a miss, and ties count against the model. `--repeats drop` never lists the current item;
`keep` may. Training does not read the test file: the newest sessions of the training file are for validation. Prints
one line of JSON per model, and a range over several seeds.

    python benchmarks/accuracy.py --train train.txt --test test.txt [--models attention vmis_knn] [--targets all|last]
        [--repeats keep|drop] [--seed 0] [--parameters JSON] [--least hr_at_20=0.71]
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import numpy as np

import views
from bars import at_least, conclude
from boat import metrics
from boat.models import archive, examples
from boat.models.examples import Sessions
from boat.models.export import export_fitted
from boat.models.parameters import parse
from boat.models.served import SavedModel
from boat.recommend import family
from boat.recommend.parameters import RecommendModel, RecommendParameters

VALIDATION_SHARE = 0.05
EVENTS_PER_REQUEST = 50
BATCH = 500
DEFAULT = RecommendParameters().model


def learn(train: Path, parameters: RecommendParameters, path: Path) -> float:
    """Train and export a model. Return the seconds, without the time to read the file."""
    train_views = views.read(train)
    if parameters.repeats == "drop":
        train_views = views.collapsed(train_views)
    parts = [views.sessions(part) for part in (*views.split(train_views, VALIDATION_SHARE), train_views)]
    began = time.monotonic()
    fitted = family.fit(*parts, parameters, lambda epoch: print(parameters.model, dict(epoch), file=sys.stderr))
    seconds = time.monotonic() - began
    print(parameters.model, fitted.metrics, file=sys.stderr)
    export_fitted(fitted, path, kind="recommend", parameters=asdict(parameters))
    return seconds


def score(path: Path, test: Sessions, targets: str, products: int) -> dict[str, float]:
    """Compute the figures of an exported model."""
    with tempfile.TemporaryDirectory() as folder:
        archive.unpack(path, Path(folder, "model"), archive.digest(path))
        model = SavedModel(Path(folder, "model"))
    session, length = positions(test, targets)
    answers = [
        model.score(examples.columns(test, session[at : at + BATCH], length[at : at + BATCH], EVENTS_PER_REQUEST))
        for at in range(0, len(session), BATCH)
    ]
    listed, scores = (np.concatenate([answer[name] for answer in answers]) for name in ("product_id", "score"))
    target_ids = np.array([name.encode() for name in test.strings("product_id")[test.offsets[session] + length]])
    rank = metrics.ranks(scores, listed.astype(bytes), target_ids)
    hits, reciprocal = (rank <= 20).astype(float), metrics.reciprocal_ranks(rank, 20)
    low, high = metrics.interval(hits)
    mrr_low, mrr_high = metrics.interval(reciprocal)
    figures = {f"hr_at_{k}": metrics.hit_rate(rank, k) for k in (5, 10, 20)}
    figures |= {"mrr_at_20": float(reciprocal.mean()), "hr_at_20_low": low, "hr_at_20_high": high}
    figures |= {"mrr_at_20_low": mrr_low, "mrr_at_20_high": mrr_high}
    figures |= {"coverage_at_20": metrics.coverage(listed, products)}
    return {"targets": len(rank), **figures, "predict_ms": milliseconds(model, test, session, length)}


def positions(test: Sessions, targets: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the session of each target, and the number of items before it."""
    session = np.repeat(np.arange(len(test)), np.maximum(test.lengths - 1, 0))
    length = np.arange(len(session)) - np.searchsorted(session, session) + 1
    is_target = length == test.lengths[session] - 1 if targets == "last" else np.full(len(session), True)
    return session[is_target], length[is_target]


def milliseconds(model: SavedModel, test: Sessions, session: np.ndarray, length: np.ndarray) -> float:
    """Measure the median time of one session per request."""
    durations = []
    for at in range(min(200, len(session))):
        columns = examples.columns(test, session[at : at + 1], length[at : at + 1], EVENTS_PER_REQUEST)
        began = time.perf_counter()
        model.score(columns)
        durations.append(1000 * (time.perf_counter() - began))
    return float(np.median(durations))


def measure(options: argparse.Namespace, model: RecommendModel, seed: int) -> dict[str, float]:
    """Train a model and return its figures."""
    parameters = replace(
        parse(options.parameters, RecommendParameters), model=model, repeats=options.repeats, seed=seed
    )
    products = views.read(options.train)["product_id"].nunique()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tar.gz")
        seconds = learn(options.train, parameters, path)
        figures = score(path, views.sessions(views.read(options.test)), options.targets, products)
    return {name: round(value, 4) for name, value in {**figures, "train_seconds": seconds}.items()}


def report(model: str, runs: Sequence[Mapping[str, float]], least: Mapping[str, float]) -> int:
    """Print a line per run, and compare the worst figures of all runs with the bars."""
    bars = [at_least(name, min(run[name] for run in runs), limit) for name, limit in least.items()]
    return max(conclude("accuracy", run, *bars, model=model) for run in runs)


def _least(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    return name, float(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--models", nargs="+", choices=get_args(RecommendModel), default=get_args(RecommendModel))
    parser.add_argument("--targets", choices=("all", "last"), default="all")
    parser.add_argument("--repeats", choices=("keep", "drop"), default="drop")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--parameters", default='{"max_seconds": 1800}', help="JSON, as the training job takes it")
    parser.add_argument("--least", type=_least, nargs="+", default=[], help=f"figures that {DEFAULT} has to reach")
    options = parser.parse_args()
    failed = 0
    for model in options.models:
        runs = [measure(options, model, seed) for seed in (options.seed if model == DEFAULT else options.seed[:1])]
        failed |= report(model, runs, dict(options.least) if model == DEFAULT else {})
    return failed


if __name__ == "__main__":
    print(json.dumps({"argv": sys.argv[1:]}), file=sys.stderr)
    sys.exit(main())
