"""Requests a second that the endpoint host answers with the nightly next-item model, one session a request.

A model is trained on a file of views and put behind a real host, which senders of this process ask over HTTP, each for
one session after another. The peer is the exported model itself, called one session at a time without a host.

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
from accuracy import asked, learn, milliseconds
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
    """The address of a host that runs meanwhile."""
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
    """Put the model behind its endpoint, once the host takes requests."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return serving.connect(f"local:{url}").update(RECOMMEND, model)
        except BoatError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def bodies(test: Sessions) -> list[bytes]:
    """A request for each target, with the items shown before it."""
    products = test.strings("product_id")
    found = []
    for session, shown in zip(*asked(test, "all"), strict=True):
        first = test.offsets[session]
        events: list[SessionEvent] = [
            {"event_type": "detail", "product_id": product} for product in products[first : first + shown]
        ]
        found.append(json.dumps({"instances": instances([events])}).encode())
    return found


def ask(url: str, requests: list[bytes], seconds: float) -> list[float]:
    """What each request took, in milliseconds."""
    taken = []
    with urllib3.connection_from_url(url) as pool:
        deadline = time.monotonic() + seconds
        for body in cycle(requests):
            began = time.monotonic()
            if began > deadline:
                return taken
            answer = pool.request("POST", f"/endpoints/{RECOMMEND}/invocations", body=body)
            if answer.status != 200:
                raise SystemExit(f"The host answered {answer.status}: {answer.data[:200]!r}")
            taken.append(1000 * (time.monotonic() - began))
    return taken


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
        alone = milliseconds(SavedModel(Path(name, "model")), test, *asked(test, "all"))
        requests = bodies(test)
        with host(Path(name, "state")) as url, ThreadPoolExecutor(options.senders) as senders:
            update(url, ServedModel(str(path), digest, "1"))
            shares = [list(islice(requests, start, None, options.senders)) for start in range(options.senders)]
            rounds = senders.map(ask, [url] * options.senders, shares, [options.seconds] * options.senders)
            taken = np.concatenate([np.array(each) for each in rounds])
    rate = len(taken) / options.seconds
    share = round(rate * alone / 1000, 2)
    figures = {
        "requests_per_s": round(rate),
        "p50_ms": round(float(np.median(taken)), 1),
        "p99_ms": round(float(np.percentile(taken, 99)), 1),
        "model_alone_ms": round(alone, 2),
        "share_of_model_alone": share,
    }
    return conclude("serving", figures, at_least("share_of_model_alone", share, SHARE_OF_PEER))


if __name__ == "__main__":
    sys.exit(main())
