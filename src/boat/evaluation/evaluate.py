"""The evaluation job: `python -m boat.evaluation.evaluate --kind recommend --model TAR --snapshot DIR --output FILE`.

Scores exported archives, strings in, on the test days of a snapshot, next to simple models that learned from all days
before. Next items: every item of a session after its first is a target, given those before; a target that no model
knows is a miss, and ties count against a model. Intent: each session is judged after 1, 2, 4 and 8 events and at its
end.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boat import snapshot
from boat.errors import ArtifactError, BoatError, DataError
from boat.evaluation import baselines, metrics
from boat.models import archive, examples
from boat.models.examples import Sessions
from boat.models.served import SavedModel
from boat.snapshot import Manifest

MAX_TARGETS = 20_000

_WINDOW = 50
_BATCH = 500

Figures = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate one model; the exit code is 1 after an error that the last line names."""
    parser = argparse.ArgumentParser(prog="python -m boat.evaluation.evaluate", description="Score a model.")
    parser.add_argument("--kind", choices=("recommend", "intent"), required=True)
    parser.add_argument("--model", type=Path, required=True, help="the challenger's model.tar.gz")
    parser.add_argument("--champion", type=Path, help="the champion's model.tar.gz")
    parser.add_argument("--snapshot", type=Path, required=True, help="folder of the snapshot")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    try:
        figures = evaluate(options.kind, options.model, options.snapshot, options.champion)
    except BoatError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(_plain(figures), indent=2) + "\n", encoding="utf-8")
    return 0


def evaluate(kind: archive.Kind, model: Path, folder: Path, champion: Path | None = None) -> Figures:
    """Figures of a challenger, the champion (None without one) and the baselines on a snapshot's test days.

    Args:
        kind: What the models predict.
        model: The challenger's archive.
        folder: The snapshot.
        champion: The champion's archive.

    Raises:
        ArtifactError: An archive or the snapshot is damaged, or of another kind.
        DataError: Nothing to predict on the test days.
    """
    manifest = snapshot.read(folder)
    judge, figures = (_next_items if kind == "recommend" else _purchases)(folder, manifest)
    return {
        "challenger": judge(_load(model, kind)),
        "champion": judge(_load(champion, kind)) if champion else None,
        **figures,
    }


def _plain(figures: Any) -> Any:
    """JSON has no NaN: a figure that cannot be had is null."""
    if isinstance(figures, dict):
        return {name: _plain(value) for name, value in figures.items()}
    return None if isinstance(figures, float) and not math.isfinite(figures) else figures


def _load(path: Path, kind: archive.Kind) -> SavedModel:
    with tempfile.TemporaryDirectory(prefix="boat-evaluate-") as temporary:
        folder = Path(temporary) / "model"
        archive.unpack(path, folder, archive.digest(path))
        model = SavedModel(folder)
    if model.kind != kind:
        raise ArtifactError(f"{path} is a model of the kind {model.kind}, not {kind}.", "Pass another archive.")
    return model


def _next_items(folder: Path, manifest: Manifest) -> tuple[Callable[[SavedModel], Figures], Figures]:
    path = folder / snapshot.NEXT_ITEM
    fit = examples.read(path, manifest.split, "fit")
    test = examples.read(path, manifest.split, "test")
    names, counts = examples.vocabulary(fit.strings("product_id"))
    session, shown, all_targets = _targets(test)
    codes = examples.encode(test.strings("product_id"), names)
    target = codes[test.offsets[session] + shown]

    def figures(products: np.ndarray, scores: np.ndarray) -> Figures:
        return {"all_targets": all_targets, **_recommend_figures(products, scores, target, counts)}

    def judge(model: SavedModel) -> Figures:
        outputs = _score(model, test, session, shown)
        listed = examples.encode(outputs["product_id"].astype(str).ravel(), names).astype(np.int64)
        # A champion may know products that the window no longer holds: listed, but never right.
        listed = np.where(listed == 0, -1, listed).reshape(outputs["product_id"].shape)
        return figures(listed, outputs["score"])

    learned = examples.windows(examples.encode(fit.strings("product_id"), names), fit.offsets, _WINDOW)
    recent = _recent(codes, test, session, shown)
    simple: Figures = {}
    for name, kind in (("popular", baselines.Popular), ("co_occurrence", baselines.CoOccurrence)):
        ranked = kind(learned, len(names)).recommend(recent)
        simple[name] = figures(ranked.products, ranked.scores)
    return judge, simple


def _targets(test: Sessions) -> tuple[np.ndarray, np.ndarray, int]:
    """Session and number of items before each target, at most `MAX_TARGETS` by a fixed draw; and how many there are."""
    lengths = test.lengths
    session = np.repeat(np.arange(len(test)), np.maximum(lengths - 1, 0))
    if not len(session):
        raise DataError("There is no item to predict on the test days.", "Take a snapshot of more days.")
    shown = np.arange(len(session)) - np.searchsorted(session, session) + 1
    every = len(session)
    if every > MAX_TARGETS:
        chosen = np.sort(np.random.default_rng(0).choice(every, MAX_TARGETS, replace=False))
        session, shown = session[chosen], shown[chosen]
    return session, shown, every


def _recent(codes: np.ndarray, test: Sessions, session: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Windows of known products before the chosen targets, newest first [targets, window]."""
    windows = examples.windows(codes, test.offsets, _WINDOW).recent
    first = np.append(0, np.cumsum(np.maximum(test.lengths - 1, 0)))
    chosen: np.ndarray = windows[first[session] + shown - 1]
    return chosen


def _score(model: SavedModel, part: Sessions, session: np.ndarray, shown: np.ndarray) -> dict[str, np.ndarray]:
    batches = [
        model.score(examples.columns(part, session[at : at + _BATCH], shown[at : at + _BATCH], _WINDOW))
        for at in range(0, len(session), _BATCH)
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _recommend_figures(products: np.ndarray, scores: np.ndarray, target: np.ndarray, counts: np.ndarray) -> Figures:
    """Figures of lists [targets, listed] of product codes; -1 is no known product, and target 0 is an unknown one."""
    rank = metrics.ranks(scores, products, target)
    hits, reciprocal = (rank <= 20).astype(float), metrics.reciprocal_ranks(rank, 20)
    hr_low, hr_high = metrics.interval(hits)
    mrr_low, mrr_high = metrics.interval(reciprocal)
    percentile = np.append(0.0, 1 - np.arange(len(counts)) / len(counts))  # of popularity, by code
    recommended, seen = products[products > 0], target[target > 0]
    return {
        "targets": len(target),
        "unknown_targets": int(np.sum(target == 0)),
        **{f"hr_at_{k}": metrics.hit_rate(rank, k) for k in (5, 10, 20)},
        "mrr_at_20": float(np.mean(reciprocal)),
        "hr_at_20_low": hr_low,
        "hr_at_20_high": hr_high,
        "mrr_at_20_low": mrr_low,
        "mrr_at_20_high": mrr_high,
        "coverage_at_20": metrics.coverage(recommended, len(counts)),
        "popularity_bias": float(np.mean(percentile[recommended]) - np.mean(percentile[seen])) if len(seen) else 0.0,
    }


def _purchases(folder: Path, manifest: Manifest) -> tuple[Callable[[SavedModel], Figures], Figures]:
    path = folder / snapshot.INTENT
    fit = examples.read(path, manifest.split, "fit")
    test = examples.read(path, manifest.split, "test")
    if not len(fit) or not len(test):
        raise DataError("There is no session to judge intent by on the test days.", "Take a snapshot of more days.")
    session, shown = _cuts(test)
    label = _buys(test)[session]

    def judge(model: SavedModel) -> Figures:
        probability = _score(model, test, session, shown)["purchase"].astype(np.float64)
        return _intent_figures(label, probability, shown)

    base_rate = float(np.mean(_buys(fit)[_cuts(fit)[0]]))
    simple = {
        "base_rate": _intent_figures(label, np.full(len(label), base_rate), shown),
        "logistic": _intent_figures(label, baselines.event_count_odds(fit, _cuts(fit), test, (session, shown)), shown),
    }
    return judge, simple


def _cuts(part: Sessions) -> tuple[np.ndarray, np.ndarray]:
    """Session and number of events shown, at most `MAX_TARGETS` by a fixed draw."""
    session, shown = examples.cuts(part.lengths)
    if len(session) > MAX_TARGETS:
        chosen = np.sort(np.random.default_rng(0).choice(len(session), MAX_TARGETS, replace=False))
        session, shown = session[chosen], shown[chosen]
    return session, shown


def _buys(part: Sessions) -> np.ndarray:
    buys: np.ndarray = part.events["is_purchase"].to_numpy()[part.offsets[:-1]].astype(bool)
    return buys


def _intent_figures(label: np.ndarray, probability: np.ndarray, shown: np.ndarray) -> Figures:
    table = metrics.calibration(label, probability)
    return {
        "targets": len(label),
        "purchases": int(label.sum()),
        "base_rate": float(np.mean(label)),
        "pr_auc": metrics.pr_auc(label, probability),
        "roc_auc": metrics.roc_auc(label, probability),
        "log_loss": metrics.log_loss(label, probability),
        "brier": metrics.brier(label, probability),
        "ece": metrics.expected_calibration_error(table),
        "calibration": table,
        "after": {
            str(cut): {
                "targets": int(np.sum(shown == cut)),
                "pr_auc": metrics.pr_auc(label[shown == cut], probability[shown == cut]),
                "base_rate": float(np.mean(label[shown == cut])),
            }
            for cut in examples.CUTS
            if np.any(shown == cut)
        },
    }


if __name__ == "__main__":
    sys.exit(main())
