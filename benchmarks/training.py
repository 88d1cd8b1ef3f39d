"""Measure the training speed of the nightly recommender: examples per second, and seconds to an MRR@20.

Time runs from the first counted event to the end of the epoch that reaches the target, without validation in between.
The model is trained on the whole training file.

`--ways` also measures examples per second with XLA and with bfloat16, each in a separate process. They have no bar.
They are off because they were not faster on a CPU. This option shows whether they are faster on this machine.

    python benchmarks/training.py --train train.txt --test test.txt [--targets-mrr 0.314 0.36] [--limits 13 129]
        [--ways]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

import views
from bars import at_most, conclude
from boat.models.parameters import parse
from boat.recommend import training
from boat.recommend.blend import Mix
from boat.recommend.parameters import RecommendParameters

VIEWED = 0.4  # bonus of a product that was viewed before
WAYS = {
    "plain": {},
    "xla": {"TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit"},
    "bfloat16": {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"},
}
"""Environment variables of TensorFlow for each way."""
WAY_EPOCHS = 2


def learn(
    train: Path, test: Path, parameters: RecommendParameters, targets: list[float]
) -> tuple[dict[float, float], float]:
    """Return the seconds to each reached target, and examples per second."""
    train_sessions = views.sessions(views.collapsed(views.read(train)))
    test_sessions = views.sessions(views.read(test))
    began = time.monotonic()
    names, _ = train_sessions.vocabulary("product_id")
    network, learning = training.prepare(training.targets(train_sessions, names), len(names), parameters)
    test_windows = training.targets(test_sessions, names).at(slice(None), parameters.window)
    mix = Mix((), np.append(np.float32(0), np.full(parameters.window - 1, VIEWED, np.float32)))
    spent, examples_seen, steps_seconds = time.monotonic() - began, 0, 0.0
    reached: dict[float, float] = {}
    for epoch in range(parameters.epochs + 1):
        began = time.monotonic()
        for batch in learning.batches() if epoch else ():
            learning.step(batch)
            examples_seen += len(batch)
        seconds = time.monotonic() - began
        spent, steps_seconds = spent + seconds, steps_seconds + seconds
        mrr = training.validation_mrr(training.scores(network, mix), test_windows, parameters)
        print(f"epoch {epoch}: {spent:.1f} s, MRR@20 {mrr:.4f}", file=sys.stderr)
        for target in targets:
            if mrr >= target:
                reached.setdefault(target, spent)
    return reached, examples_seen / steps_seconds


def compare(options: argparse.Namespace) -> None:
    """Print a line per way with its speed, also relative to the plain way."""
    parameters = json.dumps({**json.loads(options.parameters), "epochs": WAY_EPOCHS})
    command = [sys.executable, __file__, "--train", str(options.train), "--test", str(options.test)]
    command += ["--parameters", parameters, "--seed", str(options.seed), "--targets-mrr", "0", "--limits", "inf"]
    speed: dict[str, float] = {}
    for way, settings in WAYS.items():
        ran = subprocess.run(command, env={**os.environ, **settings}, stdout=subprocess.PIPE, text=True, check=True)
        speed[way] = json.loads(ran.stdout.splitlines()[-1])["figures"]["events_per_s"]
        figures = {"events_per_s": speed[way], "of_plain": round(speed[way] / speed["plain"], 2)}
        conclude("training", figures, way=way)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--targets-mrr", type=float, nargs="+", default=[0.314, 0.36])
    parser.add_argument("--limits", type=float, nargs="+", default=[13, 129], help="seconds for each target, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parameters", default="{}", help="JSON, as the training job takes it")
    parser.add_argument("--ways", action="store_true", help="also measure the speed with XLA and with bfloat16")
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
    if options.ways:
        compare(options)
    return failed


if __name__ == "__main__":
    sys.exit(main())
