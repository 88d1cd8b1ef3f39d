"""Compare purchase intent on real sessions with scikit-learn's gradient boosting on hand-made features.

`diginetica`: views, and whether a purchase follows. The newest sessions are cut into blocks by time. Each block is
predicted by models trained on the sessions before it, with the purchases known at its start as labels. A session is
predicted after 1, 2, 4, 6, 8 and 10 views, and after the last view before its first purchase. Later views are left out.
The peers have the same hand-made features of the same prefixes as our trees.

`uci`: one row per session, without `PageValues`, which reveals the label. There are five folds, different for each
seed. The rows have no events, so our boosting runs without a network.

The peers are scikit-learn's `HistGradientBoostingClassifier` with its defaults, and tuned by a random search in the
training sessions. Intervals are bootstraps of whole sessions, and the differences are paired. The script prints a line
of JSON per data set. It reports a data set whose file is missing, and skips it.

    python benchmarks/intent.py [--data ../shared/data] [--sets diginetica uci] [--seeds 0 1 2]
"""

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold, RandomizedSearchCV, StratifiedKFold
from threadpoolctl import threadpool_limits

from bars import Bar, at_least, conclude
from boat import metrics
from boat.intent import boosting, family
from boat.intent.features import histories
from boat.intent.graph import IntentGraph
from boat.intent.parameters import IntentParameters
from boat.models import examples
from boat.models.examples import Sessions

BLOCKS, FIRST_BLOCK = 5, 0.4
VALIDATION_SHARE = 0.2
FOLDS = 5
RESAMPLES = 500
TUNED = {
    "learning_rate": [0.02, 0.05, 0.1],
    "max_iter": [50, 100, 200],
    "max_leaf_nodes": [4, 8, 16, 31],
    "min_samples_leaf": [20, 50, 100],
    "l2_regularization": [0.0, 1.0, 5.0],
}
TRIALS = 12
DEFAULTS = IntentParameters()

Chances = dict[str, np.ndarray]
Table = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Features, labels, and the session of each row."""


def peers(train: Table, test: np.ndarray, seed: int) -> Chances:
    """Return the chances by scikit-learn's boosting, with its defaults and tuned."""
    features, label, group = train
    plain = HistGradientBoostingClassifier(random_state=seed)
    tuned = RandomizedSearchCV(
        plain, TUNED, n_iter=TRIALS, scoring="average_precision", cv=GroupKFold(3), random_state=seed
    )
    return {
        "default": plain.fit(features, label).predict_proba(test)[:, 1],
        "tuned": tuned.fit(features, label, groups=group).predict_proba(test)[:, 1],
    }


def diginetica(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray, Chances]:
    """Return the label and session of each test prefix, and its chances by model."""
    views = read_views(path)
    starts = views.drop_duplicates("session")["time"].to_numpy()
    edges = [int(edge) for edge in np.linspace(FIRST_BLOCK, 1, BLOCKS + 1) * len(starts)]
    labels, groups, chances = [], [], []
    for first, last in itertools.pairwise(edges):
        test = sessions(views[(views["session"] >= first) & (views["session"] < last)])
        session, prefix = examples.cuts(test.lengths)
        labels.append(histories(test).buys[session])
        groups.append(first + session)
        chances.append(block(views, starts, first, test, (session, prefix), seed))
        print(f"diginetica, seed {seed}: evaluated sessions {first} to {last}", file=sys.stderr)
    return np.concatenate(labels), np.concatenate(groups), join(chances)


def block(
    views: pd.DataFrame, starts: np.ndarray, first: int, test: Sessions, cuts: tuple[np.ndarray, np.ndarray], seed: int
) -> Chances:
    """Return the chances of a block's sessions by models trained on the views and purchases before its start."""
    past = views[(views["session"] < first) & (views["time"] < starts[first])]
    past = past.assign(bought=past["bought"].where(past["bought"] < starts[first]))
    cut = int(first * (1 - VALIDATION_SHARE))
    parts = past[past["session"] < cut], past[past["session"] >= cut], past
    train, validation, train_and_validation = (histories(sessions(part)) for part in parts)
    parameters = IntentParameters(seed=seed)
    candidates = family.candidates(train, validation, train_and_validation, parameters, lambda epoch: None)
    columns = examples.columns(test, *cuts, max(test.lengths))
    graphs = {name: IntentGraph(candidate.odds, parameters.window) for name, candidate in candidates.items()}
    chances: Chances = {name: graph.serve(**columns)["purchase"].numpy() for name, graph in graphs.items()}
    session, _prefix = validation.cuts(seed)
    chances["live"] = chances[family.best(candidates, validation.buys[session], session)]
    prefixes = train_and_validation.prefixes(seed)
    features = train_and_validation.features(*prefixes, parameters.window)
    table = features, train_and_validation.buys[prefixes[0]], prefixes[0]
    return {**chances, **peers(table, histories(test).features(*cuts, parameters.window), seed)}


def read_views(path: Path) -> pd.DataFrame:
    """Read the views before the first purchase: `session` (numbered by start), `product`, `time`, time `bought`."""
    events = pd.read_parquet(path).rename(columns={"ts": "time", "item_id": "product"})
    bought = events[events["event_type"] == "purchase"].groupby("session_id")["time"].min()
    views = events[events["event_type"] == "view"].assign(bought=lambda views: views["session_id"].map(bought))
    views = views[views["bought"].isna() | (views["time"] < views["bought"])]
    views["start"] = views.groupby("session_id")["time"].transform("min")
    views = views.sort_values(["start", "session_id", "time", "product"], ignore_index=True)
    views["session"] = (views["session_id"] != views["session_id"].shift()).cumsum() - 1
    return views[["session", "product", "time", "bought"]]


def sessions(views: pd.DataFrame) -> Sessions:
    """Return the views as sessions of `intent.parquet`."""
    begins = np.flatnonzero(views["session"] != views["session"].shift())
    events = pa.table(
        {
            "event_time": pa.array(views["time"].astype("datetime64[us]")),
            "event_type": pa.array(["detail"] * len(views), pa.string()),
            "product_id": pa.array(views["product"].astype(str), pa.string()),
            "url": pa.nulls(len(views), pa.string()),
            "is_purchase": pa.array(views["bought"].notna()),
        }
    )
    return Sessions(events, np.append(begins, len(views)).astype(np.int64))


def uci(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray, Chances]:
    """Return the label and row of each session in a table, and its chances by model."""
    table = pd.read_csv(path).drop(columns="PageValues")
    label = table.pop("Revenue").to_numpy(bool)
    for name in ("Month", "VisitorType", "Weekend"):
        table[name] = table[name].astype("category").cat.codes
    features, row = table.to_numpy(float), np.arange(len(table))
    chances: list[Chances] = []
    order = []
    for train_rows, test_rows in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(features, label):
        train_table = features[train_rows], label[train_rows], row[train_rows]
        boosted = boosting.fit(
            *train_table, members=DEFAULTS.members, leaves=DEFAULTS.leaves, most_rounds=DEFAULTS.rounds, seed=seed
        )
        odds = boosted.log_odds(features[test_rows])
        chances.append({"live": 1 / (1 + np.exp(-odds)), **peers(train_table, features[test_rows], seed)})
        order.append(test_rows)
        print(f"uci, seed {seed}: a fold with {boosted.rounds} rounds", file=sys.stderr)
    rows = np.concatenate(order)
    return label[rows], rows, join(chances)


def join(parts: Sequence[Chances]) -> Chances:
    """Join the chances of all parts."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def figures(label: np.ndarray, group: np.ndarray, chances: Chances) -> dict[str, float]:
    """Return PR-AUC and more of each model, with 95 % intervals over resampled sessions."""
    drawn = list(resampled(group))
    resampled_areas = {name: [area(label, chance, rows) for rows in drawn] for name, chance in chances.items()}
    result: dict[str, float] = {
        "judged": len(label),
        "sessions": len(np.unique(group)),
        "base_rate": float(label.mean()),
    }
    for name, chance in chances.items():
        low, high = np.quantile(resampled_areas[name], [0.025, 0.975])
        result |= {f"pr_auc_{name}": average_precision_score(label, chance)}
        result |= {f"pr_auc_{name}_low": low, f"pr_auc_{name}_high": high}
        result |= {f"roc_auc_{name}": roc_auc_score(label, chance), f"log_loss_{name}": log_loss(label, chance)}
        result |= {f"ece_{name}": metrics.expected_calibration_error(metrics.calibration(label, chance))}
    for peer in ("default", "tuned"):
        low, high = np.quantile(np.subtract(resampled_areas["live"], resampled_areas[peer]), [0.025, 0.975])
        result |= {f"above_{peer}": result["pr_auc_live"] - result[f"pr_auc_{peer}"]}
        result |= {f"above_{peer}_low": low, f"above_{peer}_high": high}
    return result


def resampled(group: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of as many sessions, drawn with replacement."""
    order = np.argsort(group, kind="stable")
    rows = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    draw = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        yield np.concatenate([rows[number] for number in draw.integers(len(rows), size=len(rows))])


def area(label: np.ndarray, chance: np.ndarray, rows: np.ndarray) -> float:
    """Return the PR-AUC of some rows."""
    return metrics.pr_auc(label[rows], chance[rows])


def measure(
    name: str, evaluate: Callable[[Path, int], tuple[np.ndarray, np.ndarray, Chances]], path: Path, seeds: Sequence[int]
) -> int:
    """Measure all seeds, print the mean figures and compare the live model with the peers."""
    runs: list[Mapping[str, float]] = []
    for seed in seeds:
        with threadpool_limits(1, "openmp"):  # on busy cores, OpenMP's threads mostly wait for each other
            runs.append(figures(*evaluate(path, seed)))
        print(name, {figure: round(float(value), 4) for figure, value in runs[-1].items()}, file=sys.stderr)
    means = {figure: round(float(np.mean([run[figure] for run in runs])), 4) for figure in runs[0]}
    bars: list[Bar] = [at_least(f"above_{peer}", means[f"above_{peer}"], 0.0) for peer in ("default", "tuned")]
    return conclude("intent", {**means, "seeds": len(seeds)}, *bars, data=name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the data sets")
    parser.add_argument("--sets", nargs="+", choices=("diginetica", "uci"), default=["diginetica", "uci"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    sets = {
        "diginetica": (diginetica, options.data / "diginetica_10k" / "views_plus_purchases.parquet"),
        "uci": (uci, options.data / "uci_online_shoppers" / "online_shoppers_intention.csv"),
    }
    failed = 0
    for name in options.sets:
        evaluate, path = sets[name]
        if path.is_file():
            failed |= measure(name, evaluate, path, options.seeds)
        else:
            print(f"Skipped {name}: {path} does not exist.", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
