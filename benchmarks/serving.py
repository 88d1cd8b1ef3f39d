"""Measure the requests per second of the endpoint host with the nightly recommender, one session per request.

A model is trained on a file of views and served by a real host. Senders in this process call it over HTTP, one session
after another. The peer is the exported model, called without a host, one session at a time.

    python benchmarks/serving.py --train train.txt --test test.txt [--seconds 10] [--senders 8]
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import urllib3

import views
from accuracy import learn, milliseconds, positions
from bars import at_least, conclude
from boat import serving
from boat.errors import BoatError
from boat.kinds import RECOMMEND
from boat.models import archive
from boat.models.examples import Sessions
from boat.models.served import SavedModel
from boat.models.sessions import SessionEvent, instances
from boat.recommend.parameters import RecommendParameters
from boat.serving import ServedModel

SHARE_OF_PEER = 0.5
START_SECONDS = 60


@contextmanager
def host(state: Path) -> Iterator[str]:
    """Run a host and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "boat.serving.host", "--port", port, "--state", str(state)]
    with subprocess.Popen(command) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def update(url: str, model: ServedModel) -> None:
    """Update the endpoint with the model when the host accepts requests."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return serving.connect(f"local:{url}").update(RECOMMEND, model)
        except BoatError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def bodies(test: Sessions) -> list[bytes]:
    """Build a request for each target, with the items before it."""
    products = test.strings("product_id")
    bodies = []
    for session, length in zip(*positions(test, "all"), strict=True):
        first = test.offsets[session]
        events: list[SessionEvent] = [
            {"event_type": "detail", "product_id": product} for product in products[first : first + length]
        ]
        bodies.append(json.dumps({"instances": instances([events])}).encode())
    return bodies


def ask(url: str, requests: list[bytes], seconds: float) -> list[float]:
    """Return the duration of each request, in milliseconds."""
    durations = []
    with urllib3.connection_from_url(url) as pool:
        deadline = time.monotonic() + seconds
        for body in cycle(requests):
            began = time.monotonic()
            if began > deadline:
                return durations
            answer = pool.request("POST", f"/endpoints/{RECOMMEND}/invocations", body=body)
            if answer.status != 200:
                raise SystemExit(f"The host answered {answer.status}: {answer.data[:200]!r}")
            durations.append(1000 * (time.monotonic() - began))
    return durations


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--senders", type=int, default=8)
    options = parser.parse_args()
    test = views.sessions(views.read(options.test))
    with tempfile.TemporaryDirectory(prefix="boat-benchmark-") as name:
        path = Path(name, "model.tar.gz")
        learn(options.train, RecommendParameters(epochs=1, refit_epochs=1), path)
        digest = archive.digest(path)
        archive.unpack(path, Path(name, "model"), digest)
        alone = milliseconds(SavedModel(Path(name, "model")), test, *positions(test, "all"))
        requests = bodies(test)
        with host(Path(name, "state")) as url, ThreadPoolExecutor(options.senders) as senders:
            update(url, ServedModel(str(path), digest, "1"))
            shares = [list(islice(requests, start, None, options.senders)) for start in range(options.senders)]
            rounds = senders.map(ask, [url] * options.senders, shares, [options.seconds] * options.senders)
            durations = np.concatenate([np.array(one_round) for one_round in rounds])
    rate = len(durations) / options.seconds
    share = round(rate * alone / 1000, 2)
    figures = {
        "requests_per_s": round(rate),
        "p50_ms": round(float(np.median(durations)), 1),
        "p99_ms": round(float(np.percentile(durations, 99)), 1),
        "model_alone_ms": round(alone, 2),
        "share_of_model_alone": share,
    }
    return conclude("serving", figures, at_least("share_of_model_alone", share, SHARE_OF_PEER))


if __name__ == "__main__":
    sys.exit(main())
