"""How fast the nightly next-item model learns: examples a second, and seconds to a stated MRR@20 on a file's sessions.

Time runs from the first event counted to the end of the epoch after which the target is reached; judging in between is
not in it. Nothing but the training file is learned from, and all of it is.

    python benchmarks/training.py --train train.txt --test test.txt [--targets-mrr 0.314 0.36] [--limits 13 129]
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

import views
from bars import at_most, conclude
from boat.models import examples, next_item
from boat.models.blend import Mix
from boat.models.parameters import RecommendParameters, parse

SEEN = 0.4  # added to the cosine of a product seen before


def learn(
    train: Path, test: Path, parameters: RecommendParameters, targets: list[float]
) -> tuple[dict[float, float], float]:
    """Seconds to each target that was reached, and examples a second."""
    known = views.sessions(views.collapsed(views.read(train)))
    unseen = views.sessions(views.read(test))
    began = time.monotonic()
    names, _ = examples.vocabulary(known.strings("product_id"))
    seen = next_item.windows(known, names, parameters)
    network, learning = next_item.prepare(seen, len(names), parameters)
    judged = next_item.windows(unseen, names, parameters)
    mix = Mix((), np.append(np.float32(0), np.full(parameters.window - 1, SEEN, np.float32)))
    spent, examples_seen, steps_seconds = time.monotonic() - began, 0, 0.0
    reached: dict[float, float] = {}
    for epoch in range(parameters.epochs + 1):
        began = time.monotonic()
        for batch in learning.batches() if epoch else ():
            learning.step(batch)
            examples_seen += len(batch)
        seconds = time.monotonic() - began
        spent, steps_seconds = spent + seconds, steps_seconds + seconds
        mrr = next_item.validation_mrr(next_item.scores(network, mix), judged, parameters)
        print(f"epoch {epoch}: {spent:.1f} s, MRR@20 {mrr:.4f}", file=sys.stderr)
        for target in targets:
            if mrr >= target:
                reached.setdefault(target, spent)
    return reached, examples_seen / steps_seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--targets-mrr", type=float, nargs="+", default=[0.314, 0.36])
    parser.add_argument("--limits", type=float, nargs="+", default=[13, 129], help="seconds for each target, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parameters", default="{}", help="JSON, as the training job takes it")
    options = parser.parse_args()
    parameters = replace(parse(options.parameters, RecommendParameters), seed=options.seed)
    reached, speed = learn(options.train, options.test, parameters, options.targets_mrr)
    device = "gpu" if tf.config.list_physical_devices("GPU") else "cpu"
    failed = 0
    for target, limit in zip(options.targets_mrr, options.limits, strict=True):
        seconds = round(reached.get(target, float("inf")), 1)
        figures = {
            "events_per_s": round(speed),
            "seconds_to_target": seconds,
            "target_mrr_at_20": target,
            "device": device,
        }
        failed |= conclude("training", figures, at_most("seconds_to_target", seconds, limit))
    return failed


if __name__ == "__main__":
    sys.exit(main())
