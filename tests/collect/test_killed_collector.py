"""A collector that is killed under load: every acknowledged event is stored exactly once."""

import itertools
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from boat import raw_log
from boat.warehouse import connect
from tests.collect.running_collector import counted_ids, running_collector
from tests.serving.running_host import free_port

CLIENTS = 8
LOAD_SECONDS = 0.25


@dataclass
class EventSender:
    """Sends events and batches until it is stopped. Requests without an answer are sent again with the same ids."""

    number: int
    port: int
    ended: threading.Event
    acknowledged_at_once: set[str] = field(default_factory=set)
    acknowledged_later: set[str] = field(default_factory=set)

    def run(self) -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10) as http:
            for turn in itertools.count():
                if self.ended.is_set():
                    return
                size = 1 if self.number % 2 else 20
                self._send(http, [f"{self.number}-{turn}-{index}" for index in range(size)])

    def _send(self, http: httpx.Client, names: list[str]) -> None:
        now = int(time.time() * 1000)
        events = [{"event_id": n, "event_type": "pageview", "client_id": "c", "event_time": now} for n in names]
        for tried in itertools.count():
            try:
                answer = http.post("/collect", json=events).json()
            except httpx.HTTPError:
                if self.ended.is_set():
                    return
                time.sleep(0.02)
                continue
            assert answer["accepted"] == len(names)
            (self.acknowledged_later if tried else self.acknowledged_at_once).update(names)
            return


@pytest.mark.faults
@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_every_acknowledged_event_is_stored_exactly_once(kills: int, tmp_path: Path) -> None:
    folder, port, ended = tmp_path / "landing", free_port(), threading.Event()
    clients = [EventSender(number, port, ended) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
    options = ("--events-per-second", "1e9", "--burst", "1000000000", "--rotate-seconds", "1")
    for turn in range(kills):
        with running_collector(folder, *options, port=port) as collecting:
            if turn == 0:
                for thread in threads:
                    thread.start()
            time.sleep(LOAD_SECONDS)
            collecting.kill()
    with running_collector(folder, *options, port=port) as collecting:
        time.sleep(LOAD_SECONDS)
        ended.set()
        for thread in threads:
            thread.join(30)
        collecting.stop()
    at_once = set().union(*(client.acknowledged_at_once for client in clients))
    later = set().union(*(client.acknowledged_later for client in clients))
    assert len(at_once) > 50 * kills
    assert len(later) >= kills  # the kills have hit running requests
    counts = counted_ids(folder)
    assert {name: counts[name] for name in at_once if counts[name] != 1} == {}
    assert {name for name in later if counts[name] == 0} == set()
    report = raw_log.load(connect(f"duckdb:///{tmp_path}/warehouse.duckdb"), folder)
    assert report.received == counts.total()
    assert report.accepted == len(counts)  # repeated events are duplicates
